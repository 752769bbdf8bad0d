-- FILL key; token [, version, payload, lifetime in ms]
-- Without a version the lease is released. If the lease was lost with its key, the fill is refused.
local function number(text) return text and #text <= 18 and string.match(text, '^%-?%d+$') and tonumber(text) end
local e = redis.call('HMGET', KEYS[1], 't', 'f', 'o', 'd')
if e[1] ~= ARGV[1] then
    return 'lease_lost'
end
if not ARGV[2] then
    redis.call('HDEL', KEYS[1], 't', 'te')
    return 'released'
end
local version = tonumber(ARGV[2])
if version < (number(e[2]) or 0) or (e[4] and version < (number(e[3]) or 0)) then
    redis.call('HDEL', KEYS[1], 't', 'te')
    return 'older'
end
-- The value must be written first. A full Redis that may not evict refuses the first command that
-- takes memory. After another write it would refuse nothing.
redis.call('HSET', KEYS[1], 'o', ARGV[2], 'd', ARGV[3])
-- From here on, the value's own version is the floor.
redis.call('HDEL', KEYS[1], 't', 'te', 'f')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'kept'

-- FETCH key; token, lease in ms, lowest version wanted
-- Returns "version:payload". If another caller has the lease, it returns the lease's remaining time
-- in ms. Otherwise it gives the lease to this caller and returns nothing.
-- A key is one hash. Its fields are o and d (version and payload), f (floor), t and te (token and
-- end of the lease). The end is a time by this server's clock.
local function number(text) return text and #text <= 18 and string.match(text, '^%-?%d+$') and tonumber(text) end
local e = redis.pcall('HMGET', KEYS[1], 'o', 'd', 'f', 't', 'te')
if e.err then
    if not string.find(e.err, 'WRONGTYPE') then
        return e
    end
    -- A value of another type was not written by this cache.
    redis.call('DEL', KEYS[1])
    e = {}
end
local version = number(e[1])
-- No entry of this cache has two million bytes. A larger one could never be served, so it is not
-- returned.
if e[2] and #e[2] < 2000000 and version and version >= math.max(number(e[3]) or 0, tonumber(ARGV[3])) then
    return e[1] .. ':' .. e[2]
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = number(e[5]) or 0
-- A lease that ends later than any valid lease is ignored.
if e[4] and e[4] ~= ARGV[1] and ends > now and ends <= now + tonumber(ARGV[2]) then
    return ends - now
end
-- A value that may not be served is deleted. The version of a list may fall when a row leaves it,
-- and the value would then refuse every later fill.
redis.call('HDEL', KEYS[1], 'o', 'd')
redis.call('HSET', KEYS[1], 't', ARGV[1], 'te', string.format('%.0f', now + ARGV[2]))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return false

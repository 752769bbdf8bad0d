-- INVALIDATE key; version of the change
-- Without a value or a lease there is nothing to protect, so no key is created. Late and repeated
-- calls change nothing.
local function number(text) return text and #text <= 18 and string.match(text, '^%-?%d+$') and tonumber(text) end
local e = redis.call('HMGET', KEYS[1], 'd', 't', 'f', 'o')
if not e[1] and not e[2] then
    return 0
end
if (number(e[3]) or 0) >= tonumber(ARGV[1]) then
    return 0
end
redis.call('HSET', KEYS[1], 'f', ARGV[1])
if e[1] and (number(e[4]) or 0) < tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], 'o', 'd')
end
return 1

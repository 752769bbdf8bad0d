-- FETCH key; token, lease in ms, lowest version wanted
-- Answers "version:payload", or for how many ms somebody else has the lease, or nothing: it is leased to the caller.
-- A key is one hash: o, d (version and payload), f (floor), t, te (lease: token, end by this server's clock).
local function number(text) return text and #text <= 18 and string.match(text, '^%-?%d+$') and tonumber(text) end
local e = redis.pcall('HMGET', KEYS[1], 'o', 'd', 'f', 't', 'te')
if e.err then
    if not string.find(e.err, 'WRONGTYPE') then
        return e
    end
    -- Something else of this name is nobody's.
    redis.call('DEL', KEYS[1])
    e = {}
end
local version = number(e[1])
-- No entry of ours is as long as two million bytes: what is would only be fetched in vain, again and again.
if e[2] and #e[2] < 2000000 and version and version >= math.max(number(e[3]) or 0, tonumber(ARGV[3])) then
    return e[1] .. ':' .. e[2]
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = number(e[5]) or 0
-- A lease that ends later than any lease can is not one of ours.
if e[4] and e[4] ~= ARGV[1] and ends > now and ends <= now + tonumber(ARGV[2]) then
    return ends - now
end
-- What was not wanted goes: a list's version may fall when a row leaves it, and then it would refuse every later fill.
redis.call('HDEL', KEYS[1], 'o', 'd')
redis.call('HSET', KEYS[1], 't', ARGV[1], 'te', string.format('%.0f', now + ARGV[2]))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return false

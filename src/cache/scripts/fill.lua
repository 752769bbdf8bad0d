-- FILL key; token [, order, payload, lifetime in ms]
-- Without an order the lease is given back. A lease that was lost with its key refuses: no state, no fill.
local e = redis.call('HMGET', KEYS[1], 't', 'f', 'o', 'd')
if e[1] ~= ARGV[1] then
    return 'lease_lost'
end
redis.call('HDEL', KEYS[1], 't', 'te')
if not ARGV[2] then
    return 'released'
end
local order = tonumber(ARGV[2])
if order < tonumber(e[2] or 0) or (e[4] and order < tonumber(e[3])) then
    return 'older'
end
redis.call('HSET', KEYS[1], 'o', ARGV[2], 'd', ARGV[3])
-- The value's own order is the floor from here on.
redis.call('HDEL', KEYS[1], 'f')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'kept'

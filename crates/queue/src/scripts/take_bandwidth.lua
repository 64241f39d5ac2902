-- Reserves bytes of a session's bandwidth: each reservation begins where the one before it ends (GCRA, without burst).
-- KEYS: when the last reservation ends, in microseconds of Unix time
-- ARGV: bytes, bytes per second, the furthest ahead that may be reserved in microseconds
-- Returns {1, microseconds until the reservation begins} or {0, microseconds until it is worth asking again}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local from = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
if from - now > tonumber(ARGV[3]) then
    return {0, math.ceil(from - now - ARGV[3])}
end
local to = from + math.ceil(ARGV[1] * 1000000 / ARGV[2])
redis.call('SET', KEYS[1], string.format('%.0f', to), 'PX', string.format('%.0f', math.ceil((to - now) / 1000) + 1000))
return {1, from - now}

-- Tells of a worker, and forgets those that have fallen silent. All by this server's clock.
-- KEYS: the worker, the index. ARGV: its id, what it tells, the seconds that this counts for.
local now, expiry_s = tonumber(redis.call('TIME')[1]), tonumber(ARGV[3])
redis.call('SET', KEYS[1], ARGV[2], 'EX', expiry_s)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - expiry_s - 1)
redis.call('EXPIRE', KEYS[2], expiry_s + 1)

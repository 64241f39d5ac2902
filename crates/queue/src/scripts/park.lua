-- Puts a job back at the head of its list and takes its company off the ring.
-- KEYS: the list, the ring. ARGV: the id, the company.
if not redis.call('LPOS', KEYS[1], ARGV[1]) then
    redis.call('LPUSH', KEYS[1], ARGV[1])
end
redis.call('LREM', KEYS[2], 0, ARGV[2])

-- Puts companies that have jobs on their rings.
-- KEYS: for each its list, its ring and its wake list. ARGV: for each the company.
local added = 0
for entry = 1, #ARGV do
    local list, ring, wake = KEYS[3 * entry - 2], KEYS[3 * entry - 1], KEYS[3 * entry]
    if redis.call('LLEN', list) > 0 and not redis.call('LPOS', ring, ARGV[entry]) then
        redis.call('RPUSH', ring, ARGV[entry])
        if redis.call('LLEN', wake) == 0 then
            redis.call('LPUSH', wake, '1')
        end
        added = added + 1
    end
end
return added

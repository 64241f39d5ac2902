-- Puts jobs on their companies' lists.
-- KEYS: for each job its list, its ring and its wake list. ARGV: the most wake tokens, then for each job its id, its
-- company and 1 where it goes to the head.
for job = 0, #KEYS / 3 - 1 do
    local list, ring, wake = KEYS[3 * job + 1], KEYS[3 * job + 2], KEYS[3 * job + 3]
    local id, company, at_head = ARGV[3 * job + 2], ARGV[3 * job + 3], ARGV[3 * job + 4] == '1'
    if not redis.call('LPOS', list, id) then
        redis.call(at_head and 'LPUSH' or 'RPUSH', list, id)
    end
    if not redis.call('LPOS', ring, company) then
        redis.call('RPUSH', ring, company)
    end
    redis.call('LPUSH', wake, '1')
    redis.call('LTRIM', wake, 0, ARGV[1] - 1)
end

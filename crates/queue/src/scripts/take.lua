-- Takes one job: the first of the company whose turn it is, on the first ring that has one.
-- KEYS: for each location its ring and its wake list. ARGV: for each location the beginning of its lists' names.
-- (The lists themselves are found on the ring, so they cannot be named in KEYS: not for Redis Cluster.)
for location = 1, #ARGV do
    local ring, wake = KEYS[2 * location - 1], KEYS[2 * location]
    for _ = 1, redis.call('LLEN', ring) do
        local company = redis.call('LPOP', ring)
        local list = ARGV[location] .. company
        local id = redis.call('LPOP', list)
        if redis.call('LLEN', list) > 0 then
            redis.call('RPUSH', ring, company)
        end
        if id then
            -- There may be more idle workers than the push had wake tokens: each one that finds work wakes the next.
            if redis.call('LLEN', ring) > 0 and redis.call('LLEN', wake) == 0 then
                redis.call('LPUSH', wake, '1')
            end
            return id
        end
    end
end
return false

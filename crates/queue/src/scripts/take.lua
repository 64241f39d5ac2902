-- Takes one job: the first of the company whose turn it is, on the first ring that has one.
-- KEYS: for each location its ring and its wake list, the location `any` first. ARGV: for each location the beginning
-- of its lists' names, then the companies that are passed over where they stand, but not at `any`.
-- (The lists themselves are found on the ring, so they cannot be named in KEYS: not for Redis Cluster.)
local locations, excepted = #KEYS / 2, {}
for index = locations + 1, #ARGV do
    excepted[ARGV[index]] = true
end
for location = 1, locations do
    local ring, wake = KEYS[2 * location - 1], KEYS[2 * location]
    local id, passed = false, {}
    for _ = 1, redis.call('LLEN', ring) do
        local company = redis.call('LPOP', ring)
        if location > 1 and excepted[company] then
            table.insert(passed, company)
        else
            local list = ARGV[location] .. company
            id = redis.call('LPOP', list)
            if redis.call('LLEN', list) > 0 then
                redis.call('RPUSH', ring, company)
            end
            if id then
                break
            end
        end
    end
    for index = #passed, 1, -1 do
        redis.call('LPUSH', ring, passed[index])
    end
    if id then
        -- There may be more idle workers than the push had wake tokens: each one that finds work wakes the next.
        if redis.call('LLEN', ring) > 0 and redis.call('LLEN', wake) == 0 then
            redis.call('LPUSH', wake, '1')
        end
        return id
    end
end
return false

-- Takes what is kept of a customer before the ends of partitions out of the way.
-- KEYS: where it is kept, and where it is left for a while. ARGV: seconds that it is left for, and then partitions, each
-- followed by its end.
local ends = {}
for at = 2, #ARGV, 2 do
  ends[ARGV[at]] = tonumber(ARGV[at + 1])
end
local moved = 0
local kept = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #kept, 2 do
  local _, partition = struct.unpack('<Bi4', kept[at])
  local stop = ends[tostring(partition)]
  if stop and tonumber(kept[at + 1]) < stop then
    redis.call('ZADD', KEYS[2], kept[at + 1], kept[at])
    redis.call('ZREM', KEYS[1], kept[at])
    moved = moved + 1
  end
end
if moved > 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return moved

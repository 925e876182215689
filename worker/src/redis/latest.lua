-- Decides for each device in one call. KEYS: hash and channel of each device. ARGV: how many fields,
-- the mode, the seconds until a hash expires ("" = never), the fields' names with the timestamp
-- first; then per device its serial number, the source of what is shown, which ids only fill what
-- is absent (bits, as `Fills` has them), and every field ("" = absent). Modes: "reading", one delivery or several merged, which says nothing about the
-- fields it lacks; "row", the whole row of MySQL as it stood after the delivery `source`.
-- Answers per device: 0 the same, 1 changed, 2 there is no hash (a reading alone must not make one:
-- it may be older than what was evicted), 3 the hash is newer, 4 the hash has a later delivery than
-- the row, so the row has to be read again.
local n, row, ttl = tonumber(ARGV[1]), ARGV[2] == 'row', ARGV[3]
local fields = {}
for i = 1, n do fields[i] = ARGV[3 + i] end
local ids = {userId = 1, user_id = 1, orgId = 2, org_id = 2, customerId = 4, customer_id = 4}
local answers = {}
local at = 3 + n

local function replace(key, source, first)
  local pairs = {'last_source', source}
  for i = 1, n do
    pairs[2 * i + 1] = fields[i]
    pairs[2 * i + 2] = ARGV[first + i - 1]
  end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(pairs))
end

-- A later delivery wins field by field, an earlier one fills what is absent, as MySQL's rows do.
local function merge(key, source, held, fills, first)
  local old, pairs = redis.call('HMGET', key, unpack(fields)), {}
  for i = 1, n do
    local value = ARGV[first + i - 1]
    local absent = not old[i] or old[i] == ''
    local only = fills > 0 and ids[fields[i]] and fills % (2 * ids[fields[i]]) >= ids[fields[i]]
    local wins = source >= held and not only
    if (row or (value ~= '' and (wins or absent))) and old[i] ~= value then
      pairs[#pairs + 1] = fields[i]
      pairs[#pairs + 1] = value
    end
  end
  local changed = #pairs > 0
  if source > held then
    pairs[#pairs + 1] = 'last_source'
    -- Formatted: 2^40 and more would come out in scientific notation.
    pairs[#pairs + 1] = string.format('%.0f', source)
  end
  if #pairs > 0 then redis.call('HSET', key, unpack(pairs)) end
  return changed
end

for device = 1, #KEYS / 2 do
  local key, channel = KEYS[2 * device - 1], KEYS[2 * device]
  local sn, source, fills = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local first = at + 4
  at = at + 3 + n
  local new, old = ARGV[first], redis.call('HMGET', key, 'timestamp', 'last_source')
  local shown, held = old[1], tonumber(old[2] or '') or -1
  local missing = not shown or shown == ''
  local answer = 0
  if missing and not row then
    answer = 2
  elseif missing or new > shown then
    replace(key, source, first)
    answer = 1
  elseif new < shown then
    answer = 3
  elseif row and tonumber(source) < held then
    answer = 4
  elseif merge(key, tonumber(source), held, fills, first) then
    answer = 1
  end
  if answer < 2 and ttl ~= '' then redis.call('EXPIRE', key, ttl) end
  if answer == 1 then redis.call('PUBLISH', channel, sn) end
  answers[device] = answer
end
return answers

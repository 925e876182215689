-- Updates the hashes of several devices in one call, each if the new row is newer.
-- KEYS: hash of each device.
-- ARGV[1]: mode. "reading": one delivery, or several merged; fields that it does not have stay.
--   "row": the whole row of MySQL after the delivery `source`.
-- ARGV[2]: seconds until a hash expires ("" = never).
-- ARGV[3]: names of the fields, each with the index of its value; the timestamp is first.
-- ARGV[4] and following: for each device the source, the ids that only fill (bits, as in `FillOnlyIds`), and
--   every value ("" = absent); the timestamp is first, the serial number second.
-- ARGV[3] and following are lists of strings in MessagePack.
-- Answer for each device: 0 unchanged; 1 changed; 2 there is no hash, and a reading alone must not
--   create one, because it may be older than an evicted hash; 3 the hash is newer; 4 the hash has a
--   later delivery than the row, so the row has to be read again; 5 changed, and Redis rejected the
--   message.
-- After these answers: the numbers, from 1, of the devices whose keys were no hashes and are deleted.
local row, ttl, named = ARGV[1] == 'row', ARGV[2], cmsgpack.unpack(ARGV[3])
local n, fields, places, whole = #named / 2, {}, {}, {'last_source', ''}
for i = 1, n do
  -- Source and ids come before the values.
  fields[i], places[i] = named[2 * i - 1], tonumber(named[2 * i]) + 3
  -- If all values change, only the values are replaced here. The names keep their places.
  whole[2 * i + 1] = fields[i]
end
local ids = {userId = 1, user_id = 1, orgId = 2, org_id = 2, customerId = 4, customer_id = 4}
local answers, removed = {}, {}

-- A key of another type is of no use to readers, and must not fail the other devices.
local function shown_of(key)
  local old = redis.pcall('HMGET', key, 'timestamp', 'last_source')
  if not old.err then return old end
  if not string.find(old.err, 'WRONGTYPE', 1, true) then return error(old.err) end
  redis.call('DEL', key)
  return {}, true
end

local function replace(key, new)
  whole[2] = new[1]
  for i = 1, n do whole[2 * i + 2] = new[places[i]] end
  -- Overwriting a hash is faster than creating it again. Delete a hash with more or fewer fields.
  local held = redis.call('HLEN', key)
  if held ~= 0 and held ~= n + 1 then redis.call('DEL', key) end
  redis.call('HSET', key, unpack(whole))
  -- A hash may have a time to live from an earlier setting.
  if ttl == '' then redis.call('PERSIST', key) end
end

-- As in MySQL, a later delivery wins field by field, and an earlier one fills absent fields.
local function merge(key, new, held)
  local source, fills = tonumber(new[1]), tonumber(new[2])
  local old, pairs = redis.call('HMGET', key, unpack(fields)), {}
  for i = 1, n do
    local value = new[places[i]]
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
    -- Format the number: Lua writes more than 14 digits in scientific notation.
    pairs[#pairs + 1] = string.format('%.0f', source)
  end
  if #pairs > 0 then redis.call('HSET', key, unpack(pairs)) end
  return changed
end

for device = 1, #KEYS do
  local key, new = KEYS[device], cmsgpack.unpack(ARGV[3 + device])
  local timestamp, old, foreign = new[3], shown_of(key)
  if foreign then removed[#removed + 1] = device end
  local shown, held = old[1], tonumber(old[2] or '') or -1
  local missing = not shown or shown == ''
  local answer = 0
  if missing and not row then
    answer = 2
  elseif missing or timestamp > shown then
    replace(key, new)
    answer = 1
  elseif timestamp < shown then
    answer = 3
  elseif row and tonumber(new[1]) < held then
    answer = 4
  elseif merge(key, new, held) then
    answer = 1
  end
  if answer < 2 and ttl ~= '' then redis.call('EXPIRE', key, ttl) end
  -- A rejected message must not fail the hashes of this call. A channel is no key: Redis would want the
  -- user's right to such a key.
  if answer == 1 then
    local published = redis.pcall('PUBLISH', 'health_data_channel:' .. new[4], new[4])
    if type(published) == 'table' and published.err then answer = 5 end
  end
  answers[device] = answer
end
for i = 1, #removed do answers[#answers + 1] = removed[i] end
return answers

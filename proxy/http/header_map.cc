// HeaderMap and the lookup of well-known names by a perfect hash that the compiler finds.
// Not a validator: what may stand in names and values is the codecs' and text.h's business.
#include "proxy/http/header_map.h"

#include <algorithm>
#include <array>

#include "proxy/http/text.h"

namespace proxy::http {
namespace {

constexpr std::array kNames = {
    std::string_view(),  // NameId::other
#define HOPLITE_HEADER(id, text) std::string_view(text),
#include "proxy/http/header_names.def"
#undef HOPLITE_HEADER
};

static_assert(kNames.size() <= 64, "HeaderMap keeps a bit for each name");

constexpr std::size_t kSlots = 256;
constexpr std::size_t kLongest = [] {
  std::size_t longest = 0;
  for (const std::string_view name : kNames)
    longest = name.size() > longest ? name.size() : longest;
  return longest;
}();

// The length and three characters tell the known names apart once the factor is right.
constexpr std::size_t slot_of(std::string_view name, std::uint32_t factor) noexcept {
  const auto at = [name](std::size_t i) { return static_cast<unsigned char>(to_lower(name[i])); };
  const std::size_t last = name.size() - 1;
  std::uint32_t hash = static_cast<std::uint32_t>(name.size());
  hash = hash * factor + at(0);
  hash = hash * factor + at(last);
  hash = hash * factor + at(name.size() / 2);
  hash = hash * factor + at(last - last / 4);
  return (hash ^ (hash >> 8) ^ (hash >> 16)) % kSlots;
}

consteval std::uint32_t find_factor() {
  for (std::uint32_t factor = 3; factor < 4001; factor += 2) {
    std::array<bool, kSlots> taken{};
    bool clash = false;
    for (std::size_t i = 1; i < kNames.size() && !clash; ++i) {
      bool& slot = taken[slot_of(kNames[i], factor)];
      clash = slot;
      slot = true;
    }
    if (!clash) return factor;
  }
  return 0;
}

constexpr std::uint32_t kFactor = find_factor();
static_assert(kFactor != 0, "no perfect hash: more slots are needed");

constexpr auto kTable = [] {
  std::array<NameId, kSlots> table{};
  for (std::size_t i = 1; i < kNames.size(); ++i) {
    table[slot_of(kNames[i], kFactor)] = static_cast<NameId>(i);
  }
  return table;
}();

// Storage that one huge head made grow is not kept for all the small ones after it.
constexpr std::size_t kKeptBlock = 16 * 1024;
constexpr std::size_t kKeptFields = 256;

}  // namespace

NameId find_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > kLongest) return NameId::other;
  const NameId id = kTable[slot_of(name, kFactor)];
  if (id == NameId::other) return id;
  return equals_ignore_case(name, kNames[static_cast<std::size_t>(id)]) ? id : NameId::other;
}

std::string_view name_text(NameId id) noexcept {
  return kNames[static_cast<std::size_t>(id)];
}

void HeaderMap::clear() noexcept {
  if (block_.capacity() > kKeptBlock) std::string().swap(block_);
  if (fields_.capacity() > kKeptFields) std::vector<Field>().swap(fields_);
  block_.clear();
  fields_.clear();
  live_ = 0;
  met_ = 0;
}

Text HeaderMap::put(std::string_view text) {
  const Text placed{static_cast<std::uint32_t>(block_.size()),
                    static_cast<std::uint32_t>(text.size())};
  block_.append(text);
  return placed;
}

void HeaderMap::add_in_place(NameId id, Text name, Text value) {
  fields_.push_back(Field{id, false, name, value});
  met_ |= std::uint64_t{1} << static_cast<unsigned>(id);
  ++live_;
}

HeaderMap::Field HeaderMap::lay_out(NameId id, std::string_view name, std::string_view value) {
  const std::size_t at = block_.size();
  const std::size_t end = at + name.size() + value.size() + 4;
  // Its second parameter is not used: libstdc++ 12 gives the new capacity there.
  block_.resize_and_overwrite(end, [&](char* text, std::size_t) {
    text = std::copy(name.begin(), name.end(), text + at);
    *text++ = ':';
    *text++ = ' ';
    text = std::copy(value.begin(), value.end(), text);
    *text++ = '\r';
    *text = '\n';
    return end;
  });
  const auto name_at = static_cast<std::uint32_t>(at);
  const auto name_size = static_cast<std::uint32_t>(name.size());
  return {id,
          false,
          {name_at, name_size},
          {name_at + name_size + 2, static_cast<std::uint32_t>(value.size())}};
}

void HeaderMap::add(std::string_view name, std::string_view value) {
  const Field field = lay_out(find_name(name), name, value);
  add_in_place(field.id, field.name, field.value);
}

void HeaderMap::add(NameId id, std::string_view value) {
  const Field field = lay_out(id, name_text(id), value);
  add_in_place(id, field.name, field.value);
}

const HeaderMap::Field* HeaderMap::find(NameId id) const noexcept {
  if (!met(id)) return nullptr;
  for (const Field& field : fields_) {
    if (field.id == id && !field.removed) return &field;
  }
  return nullptr;
}

std::optional<std::string_view> HeaderMap::get(NameId id) const noexcept {
  const Field* field = find(id);
  if (field == nullptr) return std::nullopt;
  return value(*field);
}

std::optional<std::string_view> HeaderMap::get(std::string_view wanted) const noexcept {
  for (const Field& field : fields_) {
    if (!field.removed && equals_ignore_case(name(field), wanted)) return value(field);
  }
  return std::nullopt;
}

std::size_t HeaderMap::count(NameId id) const noexcept {
  if (!met(id)) return 0;
  std::size_t n = 0;
  for (const Field& field : fields_) n += field.id == id && !field.removed ? 1 : 0;
  return n;
}

std::size_t HeaderMap::remove(NameId id) noexcept {
  if (!met(id)) return 0;
  std::size_t n = 0;
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (fields_[i].id != id || fields_[i].removed) continue;
    remove_at(i);
    ++n;
  }
  return n;
}

std::size_t HeaderMap::remove(std::string_view wanted) noexcept {
  std::size_t n = 0;
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (fields_[i].removed || !equals_ignore_case(name(fields_[i]), wanted)) continue;
    remove_at(i);
    ++n;
  }
  return n;
}

void HeaderMap::remove_at(std::size_t position) noexcept {
  Field& field = fields_[position];
  if (field.removed) return;
  field.removed = true;
  --live_;
}

void HeaderMap::set(NameId id, std::string_view value) {
  const Field* first = find(id);
  if (first == nullptr) {
    add(id, value);
    return;
  }
  const auto position = static_cast<std::size_t>(first - fields_.data());
  // The value may be a view of this very block, which is about to grow.
  const std::string copy(value);
  remove(id);
  fields_[position] = lay_out(id, name_text(id), copy);
  ++live_;
}

}  // namespace proxy::http

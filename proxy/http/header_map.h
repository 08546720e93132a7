// HeaderMap: an ordered list of header fields over one block of text, as they came on the wire.
// Not a map by hash: a request has some twenty fields, and a scan of small integers is faster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace proxy::http {

// Names the proxy itself looks at. Everything else is NameId::other and only passes through.
enum class NameId : std::uint8_t {
  other,
#define HOPLITE_HEADER(id, text) id,
#include "proxy/http/header_names.def"
#undef HOPLITE_HEADER
};

// The id of `name`, compared without case.
NameId find_name(std::string_view name) noexcept;
// The canonical (lower-case) text of a known name.
std::string_view name_text(NameId id) noexcept;

// A piece of a HeaderMap's text block: survives any number of add() calls, unlike a string_view.
struct Text {
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
};

// Order, case and repetition are kept. A removed field leaves a hole, so positions stay valid.
// Moving swaps the storage, so that a map which is used again and again keeps its capacity and
// the steady state allocates nothing.
class HeaderMap {
 public:
  struct Field {
    NameId id = NameId::other;
    bool removed = false;
    Text name;
    Text value;
  };

  HeaderMap() = default;
  HeaderMap(const HeaderMap&) = default;  // rare: replays and tests
  HeaderMap& operator=(const HeaderMap&) = default;
  HeaderMap(HeaderMap&& other) noexcept { swap(other); }
  HeaderMap& operator=(HeaderMap&& other) noexcept {
    swap(other);
    return *this;
  }
  void swap(HeaderMap& other) noexcept {
    block_.swap(other.block_);
    fields_.swap(other.fields_);
    std::swap(live_, other.live_);
    std::swap(met_, other.met_);
  }

  // Forgets everything; gives storage back when it has grown past what is worth keeping.
  void clear() noexcept;

  bool empty() const noexcept { return live_ == 0; }
  std::size_t size() const noexcept { return live_; }                    // fields not removed
  const std::vector<Field>& fields() const noexcept { return fields_; }  // removed ones included
  std::string_view view(Text text) const noexcept {
    return std::string_view(block_).substr(text.offset, text.length);
  }
  std::string_view name(const Field& field) const noexcept { return view(field.name); }
  std::string_view value(const Field& field) const noexcept { return view(field.value); }

  // Appends a field; name and value are copied into the block. Invalidates string_views.
  void add(std::string_view name, std::string_view value);
  void add(NameId id, std::string_view value);
  // The first live field of that name / its value; null or nullopt when there is none.
  const Field* find(NameId id) const noexcept;
  std::optional<std::string_view> get(NameId id) const noexcept;
  std::optional<std::string_view> get(std::string_view name) const noexcept;
  std::size_t count(NameId id) const noexcept;
  // Removes all fields of that name; returns how many.
  std::size_t remove(NameId id) noexcept;
  std::size_t remove(std::string_view name) noexcept;
  void remove_at(std::size_t position) noexcept;  // index into fields()
  // remove + add, in the place of the first one when there is one.
  void set(NameId id, std::string_view value);

  // For codecs: text that is part of the message but not a field (target, authority) lives in
  // the same block, and fields may refer to text already put there.
  Text put(std::string_view text);
  void add_in_place(NameId id, Text name, Text value);
  std::string& block() noexcept { return block_; }
  const std::string& block() const noexcept { return block_; }

 private:
  bool met(NameId id) const noexcept { return (met_ >> static_cast<unsigned>(id) & 1) != 0; }
  // Puts "name: value\r\n" into the block, as on the wire: writers copy neighbours in one go.
  Field lay_out(NameId id, std::string_view name, std::string_view value);

  std::string block_;
  std::vector<Field> fields_;
  std::size_t live_ = 0;
  std::uint64_t met_ = 0;  // a bit for each NameId that any field ever had: most have none
};

}  // namespace proxy::http

// Implementation of peer_exchange.h. Any and the outer Struct are written by hand: they have two
// fields each, and so their order is certain.
#include "telemetry/peer_exchange.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>

#include "telemetry/protobuf_struct.h"

namespace telemetry {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

constexpr std::string_view kStructUrl = "type.googleapis.com/google.protobuf.Struct";
// Each level of structs costs protobuf up to three messages; the metadata is one level further in.
constexpr int kMaxMessageDepth = 3 * 9;

void append_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>(static_cast<unsigned char>(value | 0x80));
    value >>= 7;
  }
  out += static_cast<char>(static_cast<unsigned char>(value));
}

// A field of the wire type "length-delimited".
std::string field(unsigned number, std::string_view bytes) {
  std::string out;
  append_varint(out, number << 3 | 2U);
  append_varint(out, bytes.size());
  out += bytes;
  return out;
}

// An entry of Struct's map: key 1, value 2, which is a Value with one field.
std::string entry(std::string_view key, unsigned kind, std::string_view value) {
  return field(1, field(1, key) + field(2, field(kind, value)));
}
constexpr unsigned kStringValue = 3;
constexpr unsigned kStructValue = 5;

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

// The value of an Any whose type is Struct; its two fields may come in any order, others not.
std::optional<std::string_view> value_of_any(std::string_view any) {
  std::optional<std::string_view> url;
  std::optional<std::string_view> value;
  while (!any.empty()) {
    const auto tag = take_varint(any);
    const auto length = tag ? take_varint(any) : std::nullopt;
    if (!length || *length > any.size()) return std::nullopt;
    if (*tag == (1U << 3 | 2U)) {
      url = any.substr(0, *length);
    } else if (*tag == (2U << 3 | 2U)) {
      value = any.substr(0, *length);
    } else {
      return std::nullopt;
    }
    any.remove_prefix(*length);
  }
  return url == kStructUrl ? value : std::nullopt;
}

}  // namespace

std::string exchange_frame(const OwnMetadata& own) {
  const std::string value = entry(kPeerMetadataHeader, kStructValue, metadata_struct(own)) +
                            entry(kPeerMetadataIdHeader, kStringValue, node_id(own));
  const std::string body = field(1, kStructUrl) + field(2, value);
  std::string frame(kFrameMagic.begin(), kFrameMagic.end());
  for (unsigned shift = 32; shift > 0; shift -= 8) {
    frame += static_cast<char>(static_cast<unsigned char>(body.size() >> (shift - 8)));
  }
  return frame + body;
}

std::optional<PeerMetadata> decode_exchange_body(std::string_view body) {
  if (body.size() > kMaxFrameBody) return std::nullopt;
  const auto value = value_of_any(body);
  if (!value) return std::nullopt;
  Struct message;
  const google::protobuf::LogSilencer silencer;
  google::protobuf::io::CodedInputStream coded(reinterpret_cast<const std::uint8_t*>(value->data()),
                                               static_cast<int>(value->size()));
  coded.SetRecursionLimit(kMaxMessageDepth);
  if (!message.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage()) return std::nullopt;
  const auto found = message.fields().find(std::string(kPeerMetadataHeader));
  if (found == message.fields().end() || found->second.kind_case() != Value::kStructValue) {
    return std::nullopt;
  }
  return decode_metadata_struct(found->second.struct_value().SerializeAsString());
}

}  // namespace telemetry

// Istio's ALPN lists (pilot util.go, the alpn filter, cluster_tls.go), as named constants.
// Not the choice itself: the server's is in context.cc, the client's offer goes into ClientTarget.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tls::alpn {

// What a mesh client offers, by the version of the request it sends, or for raw TCP.
inline constexpr std::array<std::string_view, 3> kClientHttp10{"istio-http/1.0", "istio",
                                                               "http/1.0"};
inline constexpr std::array<std::string_view, 3> kClientHttp11{"istio-http/1.1", "istio",
                                                               "http/1.1"};
inline constexpr std::array<std::string_view, 3> kClientHttp2{"istio-h2", "istio", "h2"};
inline constexpr std::array<std::string_view, 2> kClientTcp{"istio-peer-exchange", "istio"};

// What a server answers from, in its order of preference.
inline constexpr std::array<std::string_view, 2> kServerHttp{"h2", "http/1.1"};
inline constexpr std::array<std::string_view, 3> kServerTcp{"istio-peer-exchange", "h2",
                                                            "http/1.1"};

/// Whether a ClientHello that offers `protocol` comes from a mesh sidecar (spec 3.3: the filter
/// chain matches of mesh HTTP and mesh TCP).
constexpr bool is_mesh(std::string_view protocol) noexcept {
  return protocol == "istio-http/1.0" || protocol == "istio-http/1.1" || protocol == "istio-h2" ||
         protocol == "istio-peer-exchange" || protocol == "istio";
}

template <std::size_t N>
std::vector<std::string> list(const std::array<std::string_view, N>& protocols) {
  return {protocols.begin(), protocols.end()};
}

/// As RFC 7301 3.1 writes a list: each name after its length. Names that are empty or longer than
/// 255 bytes cannot be written and are left out.
inline std::string encode(const std::vector<std::string>& protocols) {
  std::string wire;
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) continue;
    wire.push_back(static_cast<char>(static_cast<unsigned char>(protocol.size())));
    wire += protocol;
  }
  return wire;
}

}  // namespace tls::alpn

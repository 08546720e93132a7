// The client's bounded store of resumable sessions, one per (Context, endpoint key).
// Not shared between threads: a worker owns one and its client Sessions use it.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "tls/openssl_ptr.h"

namespace tls {

/// Least-recently-used map. It keeps the newest session of a key and offers it again until it
/// expires: a ticket used twice links two connections of the same two sidecars, which their
/// addresses do anyway, and OpenSSL's replay danger concerns early data, which is never on.
class ClientSessions {
 public:
  explicit ClientSessions(std::size_t capacity = 1024);

  struct Entry {
    SslSessionPtr session;
    X509Ptr leaf;             // the server's certificate as it was verified
    X509Chain intermediates;  // what it sent besides, never null
    std::chrono::sys_seconds expires{};
  };

  /// Replaces the key's session; the least recently used key goes when full.
  void put(std::string_view key, Entry entry);
  /// Null when there is none or it has expired. Valid until the next call of any other method.
  const Entry* find(std::string_view key, std::chrono::sys_seconds now);
  void erase(std::string_view key);
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  using Item = std::pair<const std::string, Entry>;
  std::size_t capacity_;
  std::list<Item> entries_;  // most recently used first
  std::unordered_map<std::string_view, std::list<Item>::iterator> index_;  // keys live in entries_
};

}  // namespace tls

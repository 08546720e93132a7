// The client's bounded store of resumable sessions, one per (Context, endpoint key).
// Not shared between threads.
#include "tls/client_sessions.h"

#include <utility>

namespace tls {

ClientSessions::ClientSessions(std::size_t capacity) : capacity_(capacity) {}

void ClientSessions::put(std::string_view key, Entry entry) {
  if (capacity_ == 0) return;
  if (const auto found = index_.find(key); found != index_.end()) {
    found->second->second = std::move(entry);
    entries_.splice(entries_.begin(), entries_, found->second);
    return;
  }
  if (entries_.size() >= capacity_) {
    index_.erase(entries_.back().first);
    entries_.pop_back();
  }
  entries_.emplace_front(std::string(key), std::move(entry));
  index_.emplace(entries_.front().first, entries_.begin());
}

const ClientSessions::Entry* ClientSessions::find(std::string_view key,
                                                  std::chrono::sys_seconds now) {
  const auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  if (found->second->second.expires <= now) {
    erase(key);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return &entries_.front().second;
}

void ClientSessions::erase(std::string_view key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return;
  const auto item = found->second;
  index_.erase(found);
  entries_.erase(item);
}

}  // namespace tls

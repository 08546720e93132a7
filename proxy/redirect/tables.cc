// Finds and runs iptables-save and iptables-restore, and puts their failures into words.
#include "proxy/redirect/tables.h"

#include <sys/capability.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include <fmt/format.h>

#include "proxy/redirect/program.h"

namespace proxy::redirect {
namespace {

constexpr std::string_view kLockFile = "/run/xtables.lock";

std::string general_name(Family family, std::string_view verb) {
  return fmt::format("{}-{}", family == Family::ipv4 ? "iptables" : "ip6tables", verb);
}

std::string own_name(Family family, Backend backend, std::string_view verb) {
  return fmt::format("{}-{}-{}", family == Family::ipv4 ? "iptables" : "ip6tables",
                     name_of(backend), verb);
}

// The legacy programs need a lock file. One that cannot be made, because the root is read-only,
// would be an error; in a pod's own namespace there is nobody to wait for anyway.
std::vector<std::string> environment(bool own_lock) {
  std::vector<std::string> out = {
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
  const bool exists = ::access(kLockFile.data(), F_OK) == 0;
  const bool can_lock =
      exists ? ::access(kLockFile.data(), R_OK) == 0 : ::access("/run", W_OK) == 0;
  if (own_lock || !can_lock) out.emplace_back("XTABLES_LOCKFILE=/dev/null");
  return out;
}

std::optional<Backend> default_backend() {
  const auto program = find_program("iptables-restore");
  if (program.empty()) return std::nullopt;
  const auto done = run_program({program, "--version"}, environment(false), {});
  if (!done || done->code != 0) return std::nullopt;
  return done->out.find("nf_tables") != std::string::npos ? Backend::nft : Backend::legacy;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

// "line 12 failed", "Error occurred at line: 12": the line itself says more than its number.
std::string named_line(std::string_view message, std::string_view text) {
  constexpr std::array<std::string_view, 2> kBefore = {"line: ", "line "};
  for (const auto before : kBefore) {
    const auto at = message.find(before);
    if (at == std::string_view::npos) continue;
    std::size_t number = 0;
    const auto* begin = message.data() + at + before.size();
    if (std::from_chars(begin, message.data() + message.size(), number).ec != std::errc()) continue;
    for (; number > 1 && !text.empty(); --number) {
      text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
    }
    return fmt::format("\n  that line: {}", text.substr(0, text.find('\n')));
  }
  return {};
}

std::string failure(const std::string& program, const Finished& done, std::string_view text,
                    Backend backend, Family family) {
  const auto message = trimmed(done.err);
  auto out = fmt::format("{} failed with exit code {}: {}", program, done.code,
                         message.empty() ? "it gave no reason" : message);
  out += named_line(message, text);
  if (const auto help = advice(out, backend, family); !help.empty()) out += "\n  " + help;
  return out;
}

bool has_capability(cap_value_t wanted) {
  const std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> set(::cap_get_proc(),
                                                                          &::cap_free);
  cap_flag_value_t value = CAP_CLEAR;
  return set != nullptr && ::cap_get_flag(set.get(), wanted, CAP_EFFECTIVE, &value) == 0 &&
         value == CAP_SET;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::string_view name_of(Backend backend) noexcept {
  return backend == Backend::nft ? "nft" : "legacy";
}

std::optional<Tables> Tables::find(Backend backend, bool own_lock) {
  Tables out;
  out.backend_ = backend;
  out.own_lock_ = own_lock;
  out.is_default_ = default_backend() == backend;
  for (const auto family : kFamilies) {
    auto& programs = out.programs_[static_cast<std::size_t>(family)];
    programs.save = find_program(own_name(family, backend, "save"));
    programs.restore = find_program(own_name(family, backend, "restore"));
    if (!programs.save.empty() && !programs.restore.empty()) continue;
    if (!out.is_default_) return std::nullopt;
    programs.save = find_program(general_name(family, "save"));
    programs.restore = find_program(general_name(family, "restore"));
    if (programs.save.empty() || programs.restore.empty()) return std::nullopt;
  }
  return out;
}

std::expected<Saved, std::string> Tables::read(Family family) const {
  const auto& program = programs_[static_cast<std::size_t>(family)].save;
  const auto done = run_program({program}, environment(own_lock_), {});
  if (!done) return std::unexpected(done.error());
  if (done->code != 0) return std::unexpected(failure(program, *done, {}, backend_, family));
  // It says so instead of the rules, and ends with 0.
  if (const auto at = done->out.find("is incompatible, use 'nft' tool"); at != std::string::npos) {
    const auto begin = done->out.rfind("Table `", at);
    return std::unexpected(
        fmt::format("{}: {}\n  Rules made with the nft tool are in a table that iptables shares; "
                    "move them to a "
                    "table of their own",
                    program, done->out.substr(begin, done->out.find('\n', at) - begin)));
  }
  return parse_saved(done->out);
}

std::expected<void, std::string> Tables::change(Family family, const std::string& text) const {
  const auto& program = programs_[static_cast<std::size_t>(family)].restore;
  const auto done = run_program({program, "--noflush", "--wait=10"}, environment(own_lock_), text);
  if (!done) return std::unexpected(done.error());
  if (done->code != 0) return std::unexpected(failure(program, *done, text, backend_, family));
  return {};
}

std::string no_programs(std::optional<Backend> wanted) {
  const auto name = wanted ? fmt::format("iptables-{}-restore", name_of(*wanted))
                           : std::string("iptables-restore");
  return fmt::format(
      "{0} and {1} were not found in $PATH, nor what they are for IPv6\n"
      "  Install the package iptables (Debian: apt-get install iptables), or run this from the "
      "image of the sidecar, which has it",
      name, wanted ? fmt::format("iptables-{}-save", name_of(*wanted)) : "iptables-save");
}

std::string advice(std::string_view message, Backend backend, Family family) {
  const auto prefix = family == Family::ipv4 ? "ip" : "ip6";
  if (contains(message, "Permission denied") || contains(message, "Operation not permitted")) {
    return "A capability is missing (NET_ADMIN, and NET_RAW for iptables-legacy), or the sandbox "
           "forbids it: run it as root, or add both to securityContext.capabilities.add of the "
           "init container";
  }
  if (contains(message, "Read-only file system")) {
    return "The lock file of iptables cannot be made: let /run be writable";
  }
  if (contains(message, "do you need to insmod") || contains(message, "Table does not exist")) {
    return fmt::format(
        "The kernel lacks this table: load it on the node with modprobe {0}table_nat "
        "{0}table_mangle, or use --force-iptables-binary {1}",
        prefix, backend == Backend::nft ? "legacy" : "nft");
  }
  if (contains(message, "Protocol not supported") || contains(message, "initialize nft")) {
    return "The kernel has no nf_tables: load it on the node with modprobe nf_tables, or use "
           "--force-iptables-binary legacy";
  }
  if (contains(message, "missing kernel module") ||
      contains(message, "No such file or directory") ||
      contains(message, "No chain/target/match by that name")) {
    return fmt::format(
        "The kernel lacks a match or target of these rules: load them on the node with modprobe "
        "-a xt_owner xt_REDIRECT xt_tcpudp xt_comment xt_mark xt_connmark xt_conntrack xt_TPROXY{}",
        backend == Backend::nft ? " nft_compat nft_chain_nat" : "");
  }
  if (contains(message, "Device or resource busy") || contains(message, "Too many links") ||
      contains(message, "Directory not empty") || contains(message, "that line: -X ")) {
    return "A rule that is not ours leads into one of our chains: remove that rule first";
  }
  return {};
}

std::string missing_capabilities(Backend backend) {
  std::string missing;
  if (!has_capability(CAP_NET_ADMIN)) missing = "NET_ADMIN";
  if (backend == Backend::legacy && !has_capability(CAP_NET_RAW)) {
    missing += missing.empty() ? "NET_RAW" : " and NET_RAW";
  }
  if (missing.empty()) return {};
  return fmt::format(
      "the capability {} is missing, without which the rules of this network namespace cannot be "
      "{}\n  Run it as root, or give the init container securityContext.capabilities.add: "
      "[NET_ADMIN, NET_RAW] and runAsUser: 0",
      missing, "read or changed");
}

}  // namespace proxy::redirect

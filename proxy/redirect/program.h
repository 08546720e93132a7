// Runs other programs to their end, without a shell. Blocking; for commands, not for the data path.
// Not what they are run for.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace proxy::redirect {

struct Finished {
  int code = 0;  // 128 + the signal's number when one ended it
  std::string out;
  std::string err;
};

// The program's full path by $PATH, then /usr/sbin and its like, which a user's $PATH often lacks.
// Empty when there is none.
std::string find_program(std::string_view name);

// argv[0] is a full path. `environment` is all it gets. The error says why it could not be started,
// or that it was stopped after `seconds`.
std::expected<Finished, std::string> run_program(const std::vector<std::string>& argv,
                                                 const std::vector<std::string>& environment,
                                                 std::string_view input, int seconds = 30);

}  // namespace proxy::redirect

// Runs the built program the way a user does: its own process, its own environment, text in and out.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace metal_candle::test {

struct RunOptions {
  std::string input = {};                     ///< Standard input; then end of file.
  bool empty_environment = false;             ///< As under `env -i`: no PATH, no HOME.
  std::vector<std::string> environment = {};  ///< "NAME=value", added.
  std::string output_file = {};               ///< Standard output goes there instead, e.g. /dev/full.
  std::string interrupt_at = {};              ///< SIGINT once this has appeared on standard output.
  int timeout_seconds = 120;
};

struct RunResult {
  int code = -1;  ///< Exit code, or 128 + signal.
  std::string out, err;
  std::size_t peak_bytes = 0;  ///< Largest resident set.
};

inline RunResult run_program(const std::vector<std::string>& arguments, const RunOptions& options = {}) {
  const auto check = [](bool ok, const char* what) {
    if (!ok) throw std::runtime_error(what);
  };
  int in[2], out[2], err[2];
  check(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(err, O_CLOEXEC) == 0, "pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  if (options.output_file.empty()) {
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  } else {
    posix_spawn_file_actions_addopen(&actions, 1, options.output_file.c_str(), O_WRONLY, 0);
  }
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);

  std::vector<std::string> words{MC_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = options.environment;
  if (!options.empty_environment) {
    for (char** entry = environ; *entry; ++entry) environment.emplace_back(*entry);
  }
  const auto pointers = [](std::vector<std::string>& strings) {
    std::vector<char*> list;
    for (std::string& s : strings) list.push_back(s.data());
    list.push_back(nullptr);
    return list;
  };
  pid_t pid = 0;
  const int failed =
      ::posix_spawn(&pid, MC_BINARY, &actions, nullptr, pointers(words).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  check(failed == 0, "cannot start " MC_BINARY);

  // A program that does not read its input must not kill or block the test.
  const auto ignored = ::signal(SIGPIPE, SIG_IGN);
  ::fcntl(in[1], F_SETFL, O_NONBLOCK);
  RunResult result;
  std::size_t sent = 0;
  bool interrupted = options.interrupt_at.empty();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(options.timeout_seconds);
  pollfd waits[3] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}, {in[1], POLLOUT, 0}};
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      ::kill(pid, SIGKILL);
      result.err += "\n[timed out]";
    }
    if (sent == options.input.size() && waits[2].fd >= 0) {
      ::close(in[1]);
      waits[2].fd = -1;
    }
    ::poll(waits, 3, 100);
    for (int i = 0; i < 2; ++i) {
      if (waits[i].fd < 0 || !(waits[i].revents & (POLLIN | POLLHUP))) continue;
      char piece[65536];
      const ssize_t got = ::read(waits[i].fd, piece, sizeof piece);
      if (got > 0) {
        (i == 0 ? result.out : result.err).append(piece, static_cast<std::size_t>(got));
      } else {
        ::close(waits[i].fd);
        waits[i].fd = -1;
      }
    }
    if (waits[2].fd >= 0 && (waits[2].revents & (POLLOUT | POLLERR))) {
      const ssize_t put = ::write(in[1], options.input.data() + sent, options.input.size() - sent);
      sent = put >= 0 ? sent + static_cast<std::size_t>(put) : options.input.size();
    }
    if (!interrupted && result.out.find(options.interrupt_at) != std::string::npos) {
      ::kill(pid, SIGINT);
      interrupted = true;
    }
  }
  if (waits[2].fd >= 0) ::close(in[1]);
  int status = 0;
  rusage usage{};
  ::wait4(pid, &status, 0, &usage);
  result.peak_bytes = static_cast<std::size_t>(usage.ru_maxrss) * 1024;
  ::signal(SIGPIPE, ignored);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

/// Starts the program, kills it when `due` says so, and says whether it was still running then.
inline bool run_and_kill(const std::vector<std::string>& arguments, const std::function<bool()>& due) {
  std::vector<std::string> words{MC_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& w : words) pointers.push_back(w.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  if (::posix_spawn(&pid, MC_BINARY, &actions, nullptr, pointers.data(), environ) != 0)
    throw std::runtime_error("cannot start " MC_BINARY);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  while (!due()) {
    if (::waitpid(pid, &status, WNOHANG) == pid) return WIFSIGNALED(status);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status);
}

inline bool run_and_kill(const std::vector<std::string>& arguments, int milliseconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  return run_and_kill(arguments, [end] { return std::chrono::steady_clock::now() >= end; });
}

/// The model of the README, which scripts/fetch_demo_model.sh put there.
inline std::string demo_model() {
  const std::string path = MC_MODEL_DIR "/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) {
    throw std::runtime_error(path + " is missing: run scripts/fetch_demo_model.sh");
  }
  return path;
}

inline std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

}  // namespace metal_candle::test

// chat and completion, through pipes and through a pseudo-terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <termios.h>

#include "core/json.h"
#include "e2e/run_program.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"

namespace metal_candle::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RunResult chat(const std::string& input, std::vector<std::string> flags = {}, RunOptions options = {}) {
  flags.insert(flags.begin(), {"chat", "--model", demo_model()});
  options.input = input;
  return run_program(flags, options);
}

TEST(Chat, AnswersEachLineAndRemembers) {
  TempDir dir;
  const std::string saved = dir / "talk.json";
  const RunResult r = chat("Who wrote Romeo and Juliet?\nWhen did he live?\n/save " + saved + "\n",
                           {"--max-tokens", "24", "--system", "You are terse."});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.err, "");
  EXPECT_THAT(r.out, HasSubstr("Shakespeare"));
  const Json json = Json::parse(read_text(saved));
  ASSERT_EQ(json["messages"].size(), 5u);
  EXPECT_EQ(json["messages"][0]["role"], "system");
  EXPECT_EQ(json["messages"][0]["content"], "You are terse.");
  EXPECT_EQ(json["messages"][3]["content"], "When did he live?");
  EXPECT_EQ(json["messages"][4]["role"], "assistant");
  EXPECT_THAT(r.out, HasSubstr(json["messages"][4]["content"].get<std::string>()));
}

TEST(Chat, TheFirstAnswerIsWhatGenerateSays) {
  const RunResult c = chat("Name a colour.\n", {"--max-tokens", "12"});
  const RunResult g = run_program({"generate", "--model", demo_model(), "--chat", "--prompt",
                                   "Name a colour.", "--max-tokens", "12", "--quiet"});
  EXPECT_EQ(c.out, g.out);
}

TEST(Chat, LoadContinuesAndResetForgets) {
  TempDir dir;
  const std::string talk = dir.write("talk.json", R"({"messages":[{"role":"system","content":"S"},
      {"role":"user","content":"A"},{"role":"assistant","content":"B"}]})");
  const std::string kept = dir / "kept.json", reset = dir / "reset.json", bare = dir / "bare.json";
  const RunResult r = chat("/load " + talk + "\n/save " + kept + "\n/reset\n/save " + reset +
                           "\n/system\n/save " + bare + "\n/exit\nnot read\n");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "");
  EXPECT_EQ(Json::parse(read_text(kept)), Json::parse(read_text(talk)));
  EXPECT_EQ(Json::parse(read_text(reset))["messages"].size(), 1u);
  EXPECT_EQ(Json::parse(read_text(bare))["messages"].size(), 0u);
}

TEST(Chat, AMistakeIsReportedAndTheChatGoesOn) {
  TempDir dir;
  const std::string bad = dir.write("bad.json", "{\"messages\":[{\"role\":1}]}");
  const RunResult r = chat("/bogus\n/load\n/load " + (dir / "none.json").string() + "\n/load " + bad +
                               "\n/save /nowhere/at/all.json\n/help\nSay hello.\n",
                           {"--max-tokens", "4"});
  EXPECT_EQ(r.code, 0);
  for (const char* part :
       {"/bogus", "/load needs", "none.json", "bad.json", "/nowhere/at/all.json", "/reset"}) {
    EXPECT_THAT(r.err, HasSubstr(part));
  }
  EXPECT_NE(r.out, "");
}

TEST(Chat, AFullContextForgetsTheOldestExchangesFirst) {
  std::string input = "/system Be kind.\n";
  for (int i = 0; i < 6; ++i) input += "Message " + std::to_string(i) + ": tell me about the sea, please.\n";
  TempDir dir;
  const std::string saved = dir / "talk.json";
  const RunResult r = chat(input + "/save " + saved + "\n", {"--ctx-size", "128", "--max-tokens", "16"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.err, HasSubstr("[context full: forgot the oldest 2 messages]"));
  const Json messages = Json::parse(read_text(saved))["messages"];
  EXPECT_EQ(messages[0]["content"], "Be kind.");
  EXPECT_THAT(messages[1]["content"].get<std::string>(), Not(HasSubstr("Message 0")));
  EXPECT_THAT(messages[messages.size() - 2]["content"].get<std::string>(), HasSubstr("Message 5"));
  std::string huge;
  for (int i = 0; i < 300; ++i) huge += "word ";
  const RunResult refused = chat(huge + "\nShort?\n", {"--ctx-size", "128", "--max-tokens", "4"});
  EXPECT_EQ(refused.code, 0);
  EXPECT_THAT(refused.err, HasSubstr("--ctx-size"));
  EXPECT_NE(refused.out, "") << "the next line is answered";
}

TEST(Chat, UnwritableOutputEndsIt) {
  EXPECT_EQ(chat("Hi\nHi\n", {"--max-tokens", "4"}, {.output_file = "/dev/full"}).code, 1);
}

/// The program on a terminal of its own.
class Terminal {
 public:
  explicit Terminal(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), MC_BINARY);
    std::vector<char*> words;
    for (std::string& a : arguments) words.push_back(a.data());
    words.push_back(nullptr);
    pid_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (pid_ == 0) {
      ::setenv("TERM", "xterm", 1);
      ::execv(MC_BINARY, words.data());
      ::_exit(127);
    }
  }
  ~Terminal() {
    if (pid_ > 0 && !reaped_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(terminal_);
  }
  void type(const std::string& keys) {
    ASSERT_EQ(::write(terminal_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  /// Waits until `text` has been shown after what earlier calls matched.
  bool shows(const std::string& text, int seconds = 60) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    for (;;) {
      const std::size_t at = screen_.find(text, seen_);
      if (at != std::string::npos) {
        seen_ = at + text.size();
        return true;
      }
      if (std::chrono::steady_clock::now() > deadline) return false;
      pollfd wait{terminal_, POLLIN, 0};
      if (::poll(&wait, 1, 100) <= 0) continue;
      char piece[4096];
      const ssize_t got = ::read(terminal_, piece, sizeof piece);
      if (got <= 0) return screen_.find(text, seen_) != std::string::npos;
      screen_.append(piece, static_cast<std::size_t>(got));
    }
  }
  /// Waits for the prompt and for the terminal to be in editing mode, which libedit enters just after showing
  /// it.
  bool prompts() {
    if (!shows("> ")) return false;
    for (int i = 0; i < 600; ++i) {
      termios modes{};
      if (::tcgetattr(terminal_, &modes) == 0 && !(modes.c_lflag & ICANON)) return true;
      ::usleep(100000);
    }
    return false;
  }
  int exit_code() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    reaped_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& screen() const { return screen_; }

 private:
  int terminal_ = -1;
  pid_t pid_ = -1;
  bool reaped_ = false;
  std::string screen_;
  std::size_t seen_ = 0;
};

TEST(ChatTerminal, CtrlCStopsTheAnswerOnly) {
  Terminal t({"chat", "--model", demo_model(), "--max-tokens", "3000", "--ignore-eos"});
  ASSERT_TRUE(t.prompts()) << t.screen();
  t.type("Count up from one, and never stop.\r");
  ASSERT_TRUE(t.shows("never stop.\r\n")) << t.screen();
  ASSERT_TRUE(t.shows(" ")) << t.screen();  // the answer has begun
  t.type("\x03");
  ASSERT_TRUE(t.shows("[stopped]")) << t.screen();
  ASSERT_TRUE(t.prompts()) << t.screen();
  t.type("half a line\x03/bogus\r");  // at the prompt it clears the line
  ASSERT_TRUE(t.shows("unknown command /bogus")) << t.screen();
  ASSERT_TRUE(t.prompts()) << t.screen();
  t.type("\x04");
  EXPECT_EQ(t.exit_code(), 0) << t.screen();
}

TEST(ChatTerminal, LinesAreEditedAndRecalled) {
  Terminal t({"chat", "--model", demo_model()});
  ASSERT_TRUE(t.prompts()) << t.screen();
  t.type("/bXXgus\x1b[D\x1b[D\x1b[D\x7f\x7fo\r");  // left three times, delete two, insert one
  ASSERT_TRUE(t.shows("unknown command /bogus")) << t.screen();
  ASSERT_TRUE(t.prompts()) << t.screen();
  t.type(
      "\x1b[A"
      "2\r");  // up: the line before
  ASSERT_TRUE(t.shows("unknown command /bogus2")) << t.screen();
  ASSERT_TRUE(t.prompts()) << t.screen();
  t.type("/exit\r");
  EXPECT_EQ(t.exit_code(), 0) << t.screen();
}

// The functions a shell would call, called by that shell.
TEST(Completion, BashCompletesVerbsFlagsAndChoices) {
  TempDir dir;
  const RunResult script = run_program({"completion", "bash"});
  ASSERT_EQ(script.code, 0) << script.err;
  const auto complete = [&](const std::string& words) {
    const std::string file =
        dir.write("try.sh", script.out + "COMP_WORDS=(" + words +
                                ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_metal_candle\n"
                                "echo \"${COMPREPLY[@]}\" > \"$1\"\n");
    const std::string out = dir / "out";
    EXPECT_EQ(std::system(("bash " + file + " " + out).c_str()), 0);
    std::string text = read_text(out);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  };
  EXPECT_EQ(complete("metal-candle gen"), "generate");
  EXPECT_EQ(complete("metal-candle c"), "chat completion");
  EXPECT_EQ(complete("metal-candle generate --max"), "--max-tokens");
  EXPECT_EQ(complete("metal-candle generate --device ''"), "auto cpu gpu");
  EXPECT_EQ(complete("metal-candle bench --kv-dtype b"), "bf16");
  EXPECT_EQ(complete("metal-candle tokenize --de"), "--decode --device");
  EXPECT_EQ(complete("metal-candle generate --device = c"), "cpu") << "--device=c";
  EXPECT_EQ(complete("metal-candle adapter m"), "merge mix");
  EXPECT_EQ(complete("metal-candle adapter mix --rank 4 --dens"), "--density");
  EXPECT_EQ(complete("metal-candle adapter convert --to ''"), "peft mlx gguf");
  EXPECT_EQ(complete("metal-candle index ''"), "build add query");
  EXPECT_EQ(complete("metal-candle completion ''"), "bash zsh fish");
}

TEST(Completion, EveryShellKnowsEveryVerb) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const RunResult r = run_program({"completion", shell});
    EXPECT_EQ(r.code, 0) << r.err;
    for (const char* word : {"generate", "chat", "tokenize", "score", "bench", "inspect", "max-tokens",
                             "merge", "density", "query"}) {
      EXPECT_THAT(r.out, HasSubstr(word)) << shell;
    }
  }
  EXPECT_EQ(run_program({"completion", "tcsh"}).code, 2);
  EXPECT_EQ(run_program({"completion"}).code, 2);
}

}  // namespace
}  // namespace metal_candle::test

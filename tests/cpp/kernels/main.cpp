// kernel_check [ROUNDS] [NAME] [FIRST_SEED]: random problems for every CPU kernel, each between guard pages. Built with
// the sanitizers by `make sanitize`. A failure names the kernel and the seed.
#include <sanitizer/common_interface_defs.h>
#include <sys/wait.h>

#include <string>

#include "cases.h"

namespace {

// A call that writes one element too many must kill the process, or this program could not find anything.
bool overrun_is_noticed() {
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    Buffer x(68, true), out(68, true);
    const hunyuan_template_scale_args args{x.data(), out.data(), 18, 2.0f, HUNYUAN_F32};
    hunyuan_template_scale(&args, {-1, nullptr, 1});
    std::_Exit(0);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// What the sanitizers print after their report.
std::string running;
void say_what_ran() { std::fprintf(stderr, "kernel_check: while running %s\n", running.c_str()); }

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 100;
  const std::string wanted = count > 2 ? arguments[2] : "";
  const uint64_t first = count > 3 ? std::strtoull(arguments[3], nullptr, 10) : 0;
  __sanitizer_set_death_callback(say_what_ran);
  CHECK(overrun_is_noticed(), "a write beyond the end went unnoticed");
  for (const auto& [name, run] : cases()) {
    if (!wanted.empty() && wanted != name) continue;
    for (uint64_t seed = first; seed < first + rounds; ++seed) {
      Problem problem(seed);
      problem.name = name + " seed " + std::to_string(seed);
      running = problem.name;
      run(problem);
    }
    std::printf("%s: %d problems\n", name.c_str(), rounds);
  }
  return report();
}

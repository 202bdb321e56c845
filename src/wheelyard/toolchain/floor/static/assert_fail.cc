// GLIBCXX_3.4.30: called by the assertions of libstdc++'s headers from gcc 12 on.
#include <cstdio>
#include <cstdlib>

namespace std {
__attribute__((noreturn)) void __glibcxx_assert_fail(
    const char* file, int line, const char* function, const char* condition) noexcept {
  if (file != nullptr && function != nullptr && condition != nullptr) {
    fprintf(stderr, "%s:%d: %s: Assertion '%s' failed.\n", file, line, function, condition);
  }
  abort();
}
}  // namespace std

// an attribute would come too late: the headers have declared it as visible
__asm__(".hidden _ZSt21__glibcxx_assert_failPKciS0_S0_");

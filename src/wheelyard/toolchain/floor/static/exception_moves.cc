// GLIBCXX_3.4.26: to move an exception is to copy it, whose text is shared anyway.
#include <new>
#include <stdexcept>
#include <utility>

#define MOVES(kind, name)                                                                  \
  extern "C" __attribute__((visibility("hidden"))) void _ZNSt##name##C1EOS_(               \
      std::kind* made, const std::kind& from) noexcept {                                   \
    new (made) std::kind(from);                                                            \
  }                                                                                        \
  extern "C" __attribute__((visibility("hidden"))) void _ZNSt##name##C2EOS_(               \
      std::kind* made, const std::kind& from) noexcept {                                   \
    new (made) std::kind(from);                                                            \
  }                                                                                        \
  extern "C" __attribute__((visibility("hidden"))) std::kind& _ZNSt##name##aSEOS_(         \
      std::kind& to, const std::kind& from) noexcept {                                     \
    return to = from;                                                                      \
  }

MOVES(logic_error, 11logic_error)
MOVES(runtime_error, 13runtime_error)

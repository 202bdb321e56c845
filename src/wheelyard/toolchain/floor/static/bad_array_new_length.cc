// GLIBCXX_3.4.29: std::allocator calls it from gcc 11 on.
#include <new>

namespace std {
__attribute__((noreturn, visibility("hidden"))) void __throw_bad_array_new_length() {
  throw bad_array_new_length();
}
}  // namespace std

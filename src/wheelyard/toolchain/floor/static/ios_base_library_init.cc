// GLIBCXX_3.4.32: <iostream> of gcc 13 asks libstdc++ in this way to have std::cout ready, where
// an older libstdc++ wants an object in every file that includes it.
#include <ios>

namespace std {
static ios_base::Init streams;
__attribute__((visibility("hidden"))) void ios_base_library_init() {}
}  // namespace std

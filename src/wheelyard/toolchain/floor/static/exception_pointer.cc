// CXXABI_1.3.13: from gcc 12 on copies of std::exception_ptr are inline and count by calling these.
// The copy and the destructor that older ones call are in every libstdc++ and count the same.
extern "C" {
void copy(void* made, const void* from) noexcept
    __asm__("_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
void destroy(void* pointer) noexcept __asm__("_ZNSt15__exception_ptr13exception_ptrD1Ev");

__attribute__((visibility("hidden"))) void
_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv(void** self) noexcept {
  void* never_destroyed;
  copy(&never_destroyed, self);
}

__attribute__((visibility("hidden"))) void
_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv(void** self) noexcept {
  void* last = *self;
  destroy(&last);
  *self = nullptr;
}
}

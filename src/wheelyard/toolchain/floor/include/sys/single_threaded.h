/* In front of glibc's, which has it from 2.32 on: libstdc++ reads this variable in shared_ptr and
   in every other count of references, so that nearly every C++ file would need that glibc. As a
   constant it says what an older system says: there may be other threads. */
#ifndef WHEELYARD_SINGLE_THREADED_H
#define WHEELYARD_SINGLE_THREADED_H
static const char __libc_single_threaded __attribute__((unused)) = 0;
#endif

/* In front of libstdc++'s: it was configured with functions that glibc has from 2.30 on, and calls
   them in its headers, for timed waits. Without them it calls the older ones. */
#include_next <bits/c++config.h>
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
#undef _GLIBCXX_USE_PTHREAD_RWLOCK_CLOCKLOCK

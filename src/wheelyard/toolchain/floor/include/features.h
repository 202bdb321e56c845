/* In front of glibc's: from 2.38 on it turns strtol and its like into __isoc23_strtol and its like
   wherever _GNU_SOURCE is defined, as g++ always does. Older systems have the former only. */
#include_next <features.h>
#ifdef __GLIBC_USE_C2X_STRTOL
#undef __GLIBC_USE_C2X_STRTOL
#define __GLIBC_USE_C2X_STRTOL 0
#endif
#ifdef __GLIBC_USE_C23_STRTOL
#undef __GLIBC_USE_C23_STRTOL
#define __GLIBC_USE_C23_STRTOL 0
#endif

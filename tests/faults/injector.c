/* Preloaded into a process under test: sees every change of the file system that it and its
   children make below one folder, and lets the n-th of them fail, take long, or be the last thing
   that happens. What it does is written into a shared file (see injecting.py). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, KILL, TEAR, FAIL, FAIL_FROM, SLOW, JUMP, KILL_CHILD, INTERRUPT };
enum { GROWS = 1, SHRINKS = 2, SYNCS = 4, RENAMES = 8 };

struct order {
  atomic_long seen;
  long at;
  int action;
  int error;
  int root;
  int kinds;
  long pause; /* nanoseconds */
  char folder[1024];
  char trace[1024];
  atomic_long asked; /* how often the time was */
};

static struct order *order;

__attribute__((constructor)) static void open_order(void) {
  const char *path = getenv("FAULTS_ORDER");
  if (path == NULL || order != NULL) return;
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) return;
  void *found = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (found != MAP_FAILED) order = found;
}

/* Write where a name or descriptor lies; return whether that is in the folder that is watched. */
static int place(int dir, const char *name, char *path) {
  char link[64];
  ssize_t size = 0;
  path[0] = 0;
  if (name == NULL || name[0] != '/') {
    if (name != NULL && dir == AT_FDCWD)
      snprintf(link, sizeof link, "/proc/self/cwd");
    else
      snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    size = syscall(SYS_readlinkat, AT_FDCWD, link, path, (size_t)PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
  }
  if (name != NULL) snprintf(path + size, PATH_MAX - size, "%s%s", size ? "/" : "", name);
  size_t length = strlen(order->folder);
  return length && strncmp(path, order->folder, length) == 0 &&
         (path[length] == '/' || path[length] == 0);
}

static void note(long number, const char *what, const char *path, const char *to) {
  char line[3 * PATH_MAX];
  int fd = syscall(SYS_openat, AT_FDCWD, order->trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
                   0644);
  if (fd < 0) return;
  int size = snprintf(line, sizeof line, "%ld\t%d\t%s\t%s\t%s\n", number, (int)getpid(), what, path,
                      to ? to : "");
  syscall(SYS_write, fd, line, (size_t)size);
  syscall(SYS_close, fd);
}

static void end_all(void) {
  if (order->root > 0 && order->root != getpid()) syscall(SYS_kill, order->root, SIGKILL);
  syscall(SYS_kill, getpid(), SIGKILL);
}

/* Return 0 to go on, -1 with errno to fail, 1 to write a part and be killed. */
static int step(int kind, const char *what, const char *path, const char *to) {
  if (!(order->kinds & kind)) return 0;
  if (order->action == KILL_CHILD && getpid() == order->root) return 0;
  long number = atomic_fetch_add(&order->seen, 1) + 1;
  if (order->trace[0]) note(number, what, path, to);
  switch (order->action) {
    case KILL:
      if (number == order->at) end_all();
      return 0;
    case KILL_CHILD:
      if (number == order->at) syscall(SYS_kill, getpid(), SIGKILL);
      return 0;
    case INTERRUPT:
      if (number == order->at) syscall(SYS_kill, order->root, SIGINT);
      return 0;
    case TEAR:
      if (number != order->at) return 0;
      if (strcmp(what, "write") != 0) end_all();
      return 1;
    case FAIL:
    case FAIL_FROM:
      if (number != order->at && (order->action == FAIL || number < order->at)) return 0;
      errno = order->error;
      return -1;
    case SLOW: {
      struct timespec pause = {order->pause / 1000000000L, order->pause % 1000000000L};
      nanosleep(&pause, NULL);
    }
  }
  return 0;
}

static int at(int kind, const char *what, int dir, const char *name) {
  char path[PATH_MAX];
  int saved = errno;
  if (order == NULL || order->at == 0 || !place(dir, name, path)) {
    errno = saved;
    return 0;
  }
  errno = saved;
  return step(kind, what, path, NULL);
}

static int at_two(int kind, const char *what, int dir, const char *name, int to_dir,
                  const char *to) {
  char path[PATH_MAX], other[PATH_MAX];
  int saved = errno;
  if (order == NULL || order->at == 0) return 0;
  int inside = place(to_dir, to, other);
  if (!(place(dir, name, path) || inside)) {
    errno = saved;
    return 0;
  }
  errno = saved;
  return step(kind, what, path, other);
}

static int is_file(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

#define CHANGING (O_CREAT | O_TRUNC)

static int opens(const char *what, int dir, const char *name, int flags) {
  struct stat status;
  if (order == NULL || order->at == 0) return 0;
  int there = syscall(SYS_newfstatat, dir, name, &status, 0) == 0;
  if (!((flags & O_CREAT) && !there) && !((flags & O_TRUNC) && there && status.st_size)) return 0;
  if (there && !S_ISREG(status.st_mode)) return 0;
  return at(GROWS, what, dir, name);
}

#define OPEN(function, ...)                                              \
  {                                                                      \
    mode_t mode = 0;                                                     \
    if (flags & (O_CREAT | O_TMPFILE)) {                                 \
      va_list list;                                                      \
      va_start(list, flags);                                             \
      mode = va_arg(list, mode_t);                                       \
      va_end(list);                                                      \
    }                                                                    \
    if ((flags & CHANGING) && opens("open", dir, name, flags)) return -1; \
    return syscall(SYS_openat, dir, name, flags, mode);                  \
  }

int open(const char *name, int flags, ...) { int dir = AT_FDCWD; OPEN() }
int open64(const char *name, int flags, ...) { int dir = AT_FDCWD; OPEN() }
int openat(int dir, const char *name, int flags, ...) OPEN()
int openat64(int dir, const char *name, int flags, ...) OPEN()

ssize_t write(int fd, const void *content, size_t size) {
  if (order != NULL && order->at != 0 && fd > 2 && is_file(fd)) {
    int told = at(GROWS, "write", fd, NULL);
    if (told < 0) return -1;
    if (told > 0) {
      syscall(SYS_write, fd, content, size / 2);
      end_all();
    }
  }
  return syscall(SYS_write, fd, content, size);
}

ssize_t pwrite64(int fd, const void *content, size_t size, off_t offset) {
  if (order != NULL && order->at != 0 && is_file(fd) && at(GROWS, "pwrite", fd, NULL) < 0) return -1;
  return syscall(SYS_pwrite64, fd, content, size, offset);
}
ssize_t pwrite(int fd, const void *content, size_t size, off_t offset) {
  return pwrite64(fd, content, size, offset);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (order != NULL && order->at != 0 && is_file(fd) && at(GROWS, "writev", fd, NULL) < 0) return -1;
  return syscall(SYS_writev, fd, parts, count);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
  if (at(GROWS, "copy", out, NULL) < 0) return -1;
  return syscall(SYS_copy_file_range, in, from, out, to, size, flags);
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t size) {
  if (order != NULL && order->at != 0 && is_file(out) && at(GROWS, "copy", out, NULL) < 0) return -1;
  return syscall(SYS_sendfile, out, in, from, size);
}
ssize_t sendfile(int out, int in, off_t *from, size_t size) {
  return sendfile64(out, in, from, size);
}

int renameat2(int dir, const char *name, int to_dir, const char *to, unsigned flags) {
  if (at_two(GROWS | RENAMES, "rename", dir, name, to_dir, to)) return -1;
  return syscall(SYS_renameat2, dir, name, to_dir, to, flags);
}
int rename(const char *name, const char *to) {
  return renameat2(AT_FDCWD, name, AT_FDCWD, to, 0);
}
int renameat(int dir, const char *name, int to_dir, const char *to) {
  return renameat2(dir, name, to_dir, to, 0);
}
int linkat(int dir, const char *name, int to_dir, const char *to, int flags) {
  if (at_two(GROWS | RENAMES, "link", dir, name, to_dir, to)) return -1;
  return syscall(SYS_linkat, dir, name, to_dir, to, flags);
}
int link(const char *name, const char *to) { return linkat(AT_FDCWD, name, AT_FDCWD, to, 0); }
int symlinkat(const char *target, int dir, const char *name) {
  if (at(GROWS, "symlink", dir, name)) return -1;
  return syscall(SYS_symlinkat, target, dir, name);
}
int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }
int unlinkat(int dir, const char *name, int flags) {
  if (at(SHRINKS, flags & AT_REMOVEDIR ? "rmdir" : "unlink", dir, name)) return -1;
  return syscall(SYS_unlinkat, dir, name, flags);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) {
  int result = unlink(name);
  return result && errno == EISDIR ? rmdir(name) : result;
}
int mkdirat(int dir, const char *name, mode_t mode) {
  struct stat status;
  int there = syscall(SYS_newfstatat, dir, name, &status, 0) == 0;
  if (!there && at(GROWS, "mkdir", dir, name)) return -1;
  return syscall(SYS_mkdirat, dir, name, mode);
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
int ftruncate64(int fd, off_t size) {
  struct stat status;
  if (fstat(fd, &status) == 0 && status.st_size != size && at(SHRINKS, "truncate", fd, NULL))
    return -1;
  return syscall(SYS_ftruncate, fd, size);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fsync(int fd) {
  if (at(SYNCS, "fsync", fd, NULL)) return -1;
  return order != NULL && order->at != 0 ? 0 : syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
  if (at(SYNCS, "fsync", fd, NULL)) return -1;
  return order != NULL && order->at != 0 ? 0 : syscall(SYS_fdatasync, fd);
}
int syncfs(int fd) {
  if (at(SYNCS, "syncfs", fd, NULL)) return -1;
  return order != NULL && order->at != 0 ? 0 : syscall(SYS_syncfs, fd);
}

/* The clock on the wall jumps back and forth; the one that only goes forward does so here too. */
int clock_gettime(clockid_t which, struct timespec *now) {
  int result = syscall(SYS_clock_gettime, which, now);
  if (result == 0 && which == CLOCK_REALTIME && order != NULL && order->action == JUMP)
    now->tv_sec += (atomic_fetch_add(&order->asked, 1) % 3 - 1) * (order->pause / 1000000000L);
  return result;
}
time_t time(time_t *kept) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (kept != NULL) *kept = now.tv_sec;
  return now.tv_sec;
}

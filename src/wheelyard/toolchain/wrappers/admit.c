/* Ask the machine's budget before a compile, and hold what it grants until the compile ends.

   admit KIND COMMAND...   with WHEELYARD_BUDGET (a Unix socket) and WHEELYARD_UNIT (JSON: whose
   compile this is). One line of JSON goes there; the answer is awaited, however long it takes:
   "go", or "fresh" when the compile cache holds objects that this build's cache server cannot
   know of. Then the command runs as a child, so that nothing that it starts inherits the
   connection, and its status is reported. A connection that just closes means the same as a
   failure, however this process came to its end.

   C because it runs before every compile: a Python would take 20 ms and more, this takes 1. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char *text;
static size_t length, room;

static void put(const char *piece, size_t size) {
  if (length + size > room) {
    room = 2 * (length + size) + 4096;
    text = realloc(text, room);
    if (text == NULL) exit(71);
  }
  memcpy(text + length, piece, size);
  length += size;
}

static void put_text(const char *piece) { put(piece, strlen(piece)); }

/* A JSON string; bytes that are not ASCII stay as they are. */
static void put_quoted(const char *value) {
  char escape[8];
  put("\"", 1);
  for (; *value != '\0'; value++) {
    unsigned char byte = (unsigned char)*value;
    if (byte == '"' || byte == '\\') {
      put("\\", 1);
      put(value, 1);
    } else if (byte < 0x20) {
      snprintf(escape, sizeof escape, "\\u%04x", byte);
      put_text(escape);
    } else {
      put(value, 1);
    }
  }
  put("\"", 1);
}

static int refuse(const char *why) {
  fprintf(stderr, "wheelyard: the budget at %s %s; nothing is compiled without it\n",
          getenv("WHEELYARD_BUDGET"), why);
  return 75;
}

static int ask(const char *kind, char **command, char *answer, size_t size) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *path = getenv("WHEELYARD_BUDGET"), *about = getenv("WHEELYARD_UNIT");
  size_t done = 0;
  int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0 || path == NULL || strlen(path) >= sizeof address.sun_path) return -1;
  strcpy(address.sun_path, path);
  while (connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
    if (errno != EINTR) return -1;
  put_text("{\"about\": ");
  put_text(about == NULL || *about == '\0' ? "null" : about);
  put_text(", \"kind\": ");
  put_quoted(kind);
  put_text(", \"command\": [");
  for (char **word = command; *word != NULL; word++) {
    if (word != command) put(",", 1);
    put_quoted(*word);
  }
  put_text("]}\n");
  while (done < length) {
    ssize_t sent = send(connection, text + done, length - done, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return -1;
    if (sent > 0) done += (size_t)sent;
  }
  for (done = 0; done < size - 1;) {
    ssize_t got = recv(connection, answer + done, size - 1 - done, 0);
    if (got == 0 || (got < 0 && errno != EINTR)) return -1;
    if (got > 0) done += (size_t)got;
    if (answer[done - 1] == '\n') break;
  }
  answer[done - 1] = '\0';
  return connection;
}

/* The script that gives one compile a cache server of its own; it lies beside this program. */
static char **with_fresh_cache(const char *self, char **command, int count) {
  const char *slash = strrchr(self, '/');
  int folder = slash == NULL ? 0 : (int)(slash - self) + 1;
  char **longer = calloc((size_t)count + 2, sizeof *longer);
  char *script = malloc((size_t)folder + sizeof "fresh");
  if (longer == NULL || script == NULL) exit(71);
  sprintf(script, "%.*sfresh", folder, self);
  longer[0] = script;
  memcpy(longer + 1, command, (size_t)count * sizeof *longer);
  return longer;
}

int main(int count, char **words) {
  char answer[16], report[32];
  int status = 0;
  pid_t parent = getpid(), child;
  if (count < 3) return 64;
  int connection = ask(words[1], words + 2, answer, sizeof answer);
  if (connection < 0) return refuse("does not answer");
  if (strcmp(answer, "fresh") == 0)
    words = with_fresh_cache(words[0], words + 2, count - 2);
  else if (strcmp(answer, "go") == 0)
    words += 2;
  else
    return refuse("answers strangely");
  /* what a compile starts in its turn is part of it: it would wait for what its parent holds */
  unsetenv("WHEELYARD_BUDGET");
  child = fork();
  if (child < 0) return refuse("was left, since no process can be made");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(75);
    execvp(words[0], words);
    fprintf(stderr, "wheelyard: %s: %s\n", words[0], strerror(errno));
    _exit(127);
  }
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 71;
  status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  snprintf(report, sizeof report, "%d\n", status);
  send(connection, report, strlen(report), MSG_NOSIGNAL);
  return status;
}

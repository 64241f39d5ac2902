/* Runs a program for which the disk gives errors: faulty-disk PROGRAM [ARGUMENT...]
 *
 * In a file or directory whose path has "[eio]" in it, every read (pread64, getdents64) fails with EIO; where it
 * has "[eio-later]", those that do not begin at its start; where it has "[stale-once]", the very first with ESTALE.
 * Nothing is ever read that need not be waited for (preadv2), as from disks that cannot tell.
 * While there is the file that FAULTY_DISK_FULL names, the disk of its directory is full: no file below it grows
 * (pwrite64, pwritev), for want of space (ENOSPC). Only programs started with that variable have their writes looked at.
 * A seccomp filter hands these system calls to a process of our own, which lets the others go on: it works on any
 * file system, without rights, and whatever library makes the calls.
 *
 * Exit code 77: this machine does not let us. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long long begins_at(const struct seccomp_notif *call) {
  if (call->data.nr == SYS_pread64) return (long long)call->data.args[3];
  char name[64], line[128];
  snprintf(name, sizeof name, "/proc/%u/fdinfo/%d", call->pid, (int)call->data.args[0]);
  FILE *info = fopen(name, "r");
  long long position = 0;
  if (info && fgets(line, sizeof line, info)) sscanf(line, "pos: %lld", &position);
  if (info) fclose(info);
  return position;
}

static const char *full_sign;

/* Whether this call would make a file longer while there is no room. */
static int finds_no_room(const struct seccomp_notif *call, const char *name, const char *path) {
  const char *end = full_sign ? strrchr(full_sign, '/') : NULL;
  if (!end || strncmp(path, full_sign, (size_t)(end - full_sign) + 1) || access(full_sign, F_OK)) return 0;
  struct stat found;
  /* Of several buffers the sizes are in the caller's memory: they are written where a file is made longer. */
  long long bytes = call->data.nr == SYS_pwrite64 ? (long long)call->data.args[2] : 1;
  return !stat(name, &found) && (long long)call->data.args[3] + bytes > (long long)found.st_size;
}

static int error_for(const struct seccomp_notif *call) {
  static int was_stale = 0;
  char name[64], path[8192];
  snprintf(name, sizeof name, "/proc/%u/fd/%d", call->pid, (int)call->data.args[0]);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (call->data.nr == SYS_pwrite64 || call->data.nr == SYS_pwritev) {
    return finds_no_room(call, name, path) ? ENOSPC : 0;
  }
  if (strstr(path, "[eio]")) return EIO;
  if (strstr(path, "[eio-later]") && begins_at(call) > 0) return EIO;
  if (strstr(path, "[stale-once]") && !was_stale++) return ESTALE;
  return 0;
}

/* Decides until nobody is left who could ask. */
static int supervise(int listener) {
  struct pollfd event = {.fd = listener, .events = POLLIN};
  for (;;) {
    if (poll(&event, 1, -1) < 0 && errno != EINTR) return 1;
    if (event.revents & POLLHUP) return 0;
    if (!(event.revents & POLLIN)) continue;
    struct seccomp_notif call;
    memset(&call, 0, sizeof call);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) continue;
    struct seccomp_notif_resp answer = {.id = call.id};
    answer.error = -error_for(&call);
    if (!answer.error) answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    /* It fails when the caller was killed meanwhile. */
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
}

static struct msghdr *message(struct iovec *byte, char *room, size_t size) {
  static struct msghdr header;
  header.msg_iov = byte;
  header.msg_iovlen = 1;
  header.msg_control = room;
  header.msg_controllen = size;
  return &header;
}

int main(int count, char **arguments) {
  if (count < 2) return 2;
  full_sign = getenv("FAULTY_DISK_FULL");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return 77;
  char nothing = 0;
  struct iovec byte = {&nothing, 1};
  _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {0};
  struct msghdr *header = message(&byte, room, sizeof room);
  pid_t supervisor = fork();
  if (supervisor < 0) return 77;
  if (supervisor == 0) {
    close(ends[0]);
    int listener;
    if (recvmsg(ends[1], header, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(header)) _exit(1);
    memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(header)), sizeof listener);
    /* Signals to the program's group are not for us, and whoever reads what it says waits for it alone. */
    setsid();
    close(0);
    close(1);
    close(2);
    _exit(supervise(listener));
  }
  struct sock_filter reads[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getdents64, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 2, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
  };
  struct sock_filter writes[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
  };
  struct sock_fprog of_reads = {sizeof reads / sizeof *reads, reads};
  struct sock_fprog of_writes = {sizeof writes / sizeof *writes, writes};
  struct sock_fprog program = full_sign ? of_writes : of_reads;
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  if (listener < 0) {
    perror("faulty-disk: seccomp");
    return 77;
  }
  struct cmsghdr *control = CMSG_FIRSTHDR(header);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof listener);
  memcpy(CMSG_DATA(control), &listener, sizeof listener);
  if (sendmsg(ends[0], header, 0) != 1) return 77;
  close(listener);
  execvp(arguments[1], arguments + 1);
  perror(arguments[1]);
  return 127;
}

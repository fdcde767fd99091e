/*
 * A file system that hangs: preloaded, it lets every call on a file below HANGING_BELOW wait for
 * as long as the file HANGING_WHILE exists. The directory is a real one, so a process that does
 * not preload this sees it as it is. Whoever waits writes its thread id to HANGING_WHILE.log.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static void
wait_while_hanging(const char *what)
{
	const char *flag = getenv("HANGING_WHILE");
	int		told = 0;

	while (flag != NULL && syscall(SYS_access, flag, F_OK) == 0)
	{
		if (!told)
		{
			char		line[128],
						log[4096];
			int			fd;

			told = 1;
			snprintf(log, sizeof(log), "%s.log", flag);
			fd = (int) syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
			snprintf(line, sizeof(line), "%ld %s\n", (long) syscall(SYS_gettid), what);
			if (syscall(SYS_write, fd, line, strlen(line)) < 0)
				abort();
			syscall(SYS_close, fd);
		}
		usleep(10000);
	}
}

static void
on_path(const char *path, const char *what)
{
	const char *below = getenv("HANGING_BELOW");

	if (below != NULL && path != NULL && strncmp(path, below, strlen(below)) == 0)
		wait_while_hanging(what);
}

static void
on_fd(int fd, const char *what)
{
	char		link[64],
				path[4096];
	ssize_t		length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof(path) - 1);
	if (length > 0)
	{
		path[length] = '\0';
		on_path(path, what);
	}
}

#define OPEN(name) \
	int name(const char *path, int flags, ...) \
	{ \
		va_list list; \
		int mode; \
		va_start(list, flags); \
		mode = va_arg(list, int); \
		va_end(list); \
		on_path(path, #name); \
		return NEXT(name)(path, flags, mode); \
	}
OPEN(open)
OPEN(open64)

#define BY_PATH(type, name, parameters, arguments, path) \
	type name parameters { on_path(path, #name); return NEXT(name) arguments; }
#define BY_FD(type, name, parameters, arguments) \
	type name parameters { on_fd(fd, #name); return NEXT(name) arguments; }

BY_PATH(FILE *, fopen, (const char *path, const char *mode), (path, mode), path)
BY_PATH(FILE *, fopen64, (const char *path, const char *mode), (path, mode), path)
BY_PATH(int, rename, (const char *from, const char *to), (from, to), from)
BY_PATH(int, link, (const char *from, const char *to), (from, to), from)
BY_PATH(int, unlink, (const char *path), (path), path)
BY_PATH(int, mkdir, (const char *path, mode_t mode), (path, mode), path)
BY_PATH(int, rmdir, (const char *path), (path), path)
BY_PATH(int, access, (const char *path, int mode), (path, mode), path)
BY_PATH(int, stat, (const char *path, struct stat *found), (path, found), path)
BY_PATH(int, stat64, (const char *path, struct stat64 *found), (path, found), path)
BY_PATH(int, lstat, (const char *path, struct stat *found), (path, found), path)
BY_PATH(int, lstat64, (const char *path, struct stat64 *found), (path, found), path)
BY_PATH(int, chmod, (const char *path, mode_t mode), (path, mode), path)
BY_PATH(DIR *, opendir, (const char *path), (path), path)
BY_FD(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size))
BY_FD(ssize_t, pread, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
BY_FD(ssize_t, pread64, (int fd, void *to, size_t size, off64_t at), (fd, to, size, at))
BY_FD(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
BY_FD(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
BY_FD(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
BY_FD(ssize_t, writev, (int fd, const struct iovec *from, int count), (fd, from, count))
BY_FD(ssize_t, pwritev64, (int fd, const struct iovec *from, int count, off64_t at),
	  (fd, from, count, at))
BY_FD(ssize_t, pwritev, (int fd, const struct iovec *from, int count, off_t at),
	  (fd, from, count, at))
BY_FD(ssize_t, pwritev64v2, (int fd, const struct iovec *from, int count, off64_t at, int flags),
	  (fd, from, count, at, flags))
BY_FD(int, fsync, (int fd), (fd))
BY_FD(int, fdatasync, (int fd), (fd))
BY_FD(int, ftruncate, (int fd, off_t size), (fd, size))
BY_FD(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size))
BY_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))
BY_FD(int, fstat, (int fd, struct stat *found), (fd, found))
BY_FD(int, fstat64, (int fd, struct stat64 *found), (fd, found))

"""Which system calls a container may make: the `RuntimeDefault` profile, and profiles of the node's own.

The default is an allow list with the facts of the profile Docker and containerd ship, without io_uring,
which both have since taken out. What a capability permits is allowed where the container has it. What is
known and not allowed fails with EPERM. What is on no list fails with ENOSYS, as on an older kernel: C
libraries fall back then, and would not after EPERM. So does `clone3`, whose flags no filter can see.
Privileged containers are not filtered.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

Document = dict[str, Any]

_EPERM: Final = 1
_ENOSYS: Final = 38
_AF_VSOCK: Final = 40  # sockets to the machine's hypervisor know no namespaces
_NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEW* for mount, cgroup, UTS, IPC, user, pid and network
# Plain Linux, and 32-bit or System V behaviour without and with a fixed address layout; ~0 only asks.
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_ALWAYS: Final = """
_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list
get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set
ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
linkat listen listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise
map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open
pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64
preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64
ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send
sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid
setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid
setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt
setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statx symlink
symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname
unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
writev
"""
_NEVER: Final = """
_sysctl add_key create_module get_kernel_syms io_uring_enter io_uring_register io_uring_setup kexec_file_load
kexec_load keyctl migrate_pages move_pages nfsservctl pivot_root query_module request_key swapoff swapon sysfs
userfaultfd uselib ustat vm86 vm86old
"""
_WITH_CAPABILITY: Final[Mapping[str, str]] = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount
        mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns statmount syslog umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
_ON_MACHINE: Final[Mapping[str, tuple[Sequence[str], str]]] = {
    "x86_64": (("X86_64", "X86"), "arch_prctl modify_ldt"),
    "aarch64": (
        ("AARCH64", "ARM"),
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
}


def default(capabilities: Collection[str], machine: str = "") -> Document:
    """The `RuntimeDefault` profile of a container with these capabilities (`CAP_…`), for this machine."""
    counting = frozenset(name for name in capabilities if name in _WITH_CAPABILITY)
    return _default(counting, machine or platform.machine())


@functools.cache
def _default(capabilities: frozenset[str], machine: str) -> Document:
    architectures, own = _ON_MACHINE.get(machine, ((), ""))
    granted = {name for c in capabilities for name in _WITH_CAPABILITY[c].split()}
    others = {name for names in _WITH_CAPABILITY.values() for name in names.split()} - granted
    rules = [
        _rule([*_ALWAYS.split(), *own.split(), *sorted(granted)]),
        _rule([*_NEVER.split(), *sorted(others - {"clone", "clone3"})], error=_EPERM),
        *(_rule(["personality"], value, "SCMP_CMP_EQ") for value in _PERSONALITIES),
        _rule(["socket"], _AF_VSOCK, "SCMP_CMP_NE"),
    ]
    if "clone" not in granted:
        rules.append(_rule(["clone"], _NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ"))
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _ENOSYS,
        "architectures": [f"SCMP_ARCH_{name}" for name in architectures],
        "syscalls": rules,
    }


def _rule(names: list[str], value: int | None = None, operator: str = "", *, error: int = 0) -> Document:
    """The calls allowed (where their first argument is so), or refused with an error number."""
    rule: Document = {"names": names, "action": "SCMP_ACT_ERRNO" if error else "SCMP_ACT_ALLOW"}
    if error:
        rule["errnoRet"] = error
    if value is not None:
        rule["args"] = [{"index": 0, "value": value, "valueTwo": 0, "op": operator}]
    return rule

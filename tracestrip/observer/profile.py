"""The rules of Docker's default seccomp profile, as a filter of their own beside the observer's.

What it allows is what moby's profiles/seccomp allows, up to Linux 6.15; everything else is denied with EPERM, and calls that
are newer with ENOSYS, as runc does, so that programs fall back. Of two filters the stricter verdict holds: seccomp(2).
"""

import errno

from tracestrip.observer import capabilities
from tracestrip.observer.bpf import (
    ARCHITECTURE_AT,
    NUMBER_AT,
    Block,
    answer,
    choice,
    if_among,
    if_at_least,
    if_equal,
    keep_bits,
    load,
    load_argument,
)
from tracestrip.observer.seccomp import ALLOW, NOSYS, architectures
from tracestrip.observer.syscalls import AUDIT_ARCH_AARCH64, AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, IO_URING, calls_of

_DENY = answer(0x00050000 | errno.EPERM)

_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_AF_VSOCK = 40
_NEWEST = 467
"""Calls with higher numbers came after the profile; the same number on every architecture."""

ALLOWED = """
    _llseek:-:140:- _newselect:-:142:- accept:43:-:202 accept4:288:364:242 adjtimex:159:124:171 alarm:37:27:-
    arch_prctl:158:384:- bpf:321:357:280 brk:12:45:214 cachestat:451:451:451 capget:125:184:90 capset:126:185:91
    clock_adjtime:305:343:266 clock_adjtime64:-:405:- clock_getres:229:266:114 clock_getres_time64:-:406:-
    clock_gettime:228:265:113 clock_gettime64:-:403:- clock_nanosleep:230:267:115 clock_nanosleep_time64:-:407:-
    clock_settime:227:264:112 clock_settime64:-:404:- clone:56:120:220 clone3:435:435:- close:3:6:57
    close_range:436:436:436 copy_file_range:326:377:285 delete_module:176:129:106 dup:32:41:23 dup2:33:63:-
    dup3:292:330:24 epoll_create:213:254:- epoll_create1:291:329:20 epoll_ctl:233:255:21 epoll_ctl_old:214:-:-
    epoll_pwait:281:319:22 epoll_pwait2:441:441:441 epoll_wait:232:256:- epoll_wait_old:215:-:- eventfd:284:323:-
    eventfd2:290:328:19 exit:60:1:93 exit_group:231:252:94 fadvise64:221:250:223 fadvise64_64:-:272:- fallocate:285:324:47
    fanotify_init:300:338:262 fchdir:81:133:50 fchmod:91:94:52 fchown:93:95:55 fchown32:-:207:- fcntl:72:55:25
    fcntl64:-:221:- fdatasync:75:148:83 fgetxattr:193:231:10 finit_module:313:350:273 flistxattr:196:234:13
    flock:73:143:32 fork:57:2:- fremovexattr:199:237:16 fsetxattr:190:228:7 fsmount:432:432:432 fsopen:430:430:430
    fstat:5:108:80 fstat64:-:197:- fstatfs:138:100:44 fstatfs64:-:269:- fsync:74:118:82 ftruncate:77:93:46
    ftruncate64:-:194:- futex:202:240:98 futex_requeue:456:456:456 futex_time64:-:422:- futex_wait:455:455:455
    futex_waitv:449:449:449 futex_wake:454:454:454 get_mempolicy:239:275:236 get_robust_list:274:312:100
    get_thread_area:211:244:- getcpu:309:318:168 getcwd:79:183:17
    getegid:108:50:177 getegid32:-:202:- geteuid:107:49:175 geteuid32:-:201:- getgid:104:47:176 getgid32:-:200:-
    getgroups:115:80:158 getgroups32:-:205:- getitimer:36:105:102 getpeername:52:368:205 getpgid:121:132:155
    getpgrp:111:65:- getpid:39:20:172 getppid:110:64:173 getpriority:140:96:141 getrandom:318:355:278
    getresgid:120:171:150 getresgid32:-:211:- getresuid:118:165:148 getresuid32:-:209:- getrlimit:97:76:-
    getrusage:98:77:165 getsid:124:147:156 getsockname:51:367:204 getsockopt:55:365:209 gettid:186:224:178
    gettimeofday:96:78:169 getuid:102:24:174 getuid32:-:199:- init_module:175:128:105 inotify_init:253:291:-
    inotify_init1:294:332:26 inotify_rm_watch:255:293:28 io_cancel:210:249:3 io_destroy:207:246:1 io_getevents:208:247:4
    io_pgetevents:333:385:292 io_pgetevents_time64:-:416:- io_setup:206:245:0 io_submit:209:248:2 ioctl:16:54:29
    ioperm:173:101:- iopl:172:110:- ioprio_get:252:290:31 ioprio_set:251:289:30 ipc:-:117:- kcmp:312:349:272
    kill:62:37:129 landlock_add_rule:445:445:445 landlock_create_ruleset:444:444:444 landlock_restrict_self:446:446:446
    listen:50:363:201 listmount:458:458:458 lookup_dcookie:212:253:18 lseek:8:19:62 lsm_get_self_attr:459:459:459
    lsm_list_modules:461:461:461 lsm_set_self_attr:460:460:460 madvise:28:219:233 map_shadow_stack:453:453:453
    mbind:237:274:235 membarrier:324:375:283 memfd_create:319:356:279 memfd_secret:447:447:- mincore:27:218:232
    mlock:149:150:228 mlock2:325:376:284 mlockall:151:152:230 mmap:9:90:222 mmap2:-:192:- modify_ldt:154:123:-
    mprotect:10:125:226 mq_getsetattr:245:282:185 mq_notify:244:281:184 mq_open:240:277:180 mq_timedreceive:243:280:183
    mq_timedreceive_time64:-:419:- mq_timedsend:242:279:182 mq_timedsend_time64:-:418:- mq_unlink:241:278:181
    mremap:25:163:216 mseal:462:462:462 msgctl:71:402:187 msgget:68:399:186 msgrcv:70:401:188 msgsnd:69:400:189
    msync:26:144:227 munlock:150:151:229 munlockall:152:153:231 munmap:11:91:215 nanosleep:35:162:101
    open_by_handle_at:304:342:265 pause:34:29:- perf_event_open:298:336:241 personality:135:136:92 pidfd_getfd:438:438:438
    pidfd_open:434:434:434 pidfd_send_signal:424:424:424 pipe:22:42:- pipe2:293:331:59 pkey_alloc:330:381:289
    pkey_free:331:382:290 pkey_mprotect:329:380:288 poll:7:168:- ppoll:271:309:73 ppoll_time64:-:414:- prctl:157:172:167
    pread64:17:180:67 preadv:295:333:69 preadv2:327:378:286 prlimit64:302:340:261 process_madvise:440:440:440
    process_mrelease:448:448:448 process_vm_readv:310:347:270 process_vm_writev:311:348:271 pselect6:270:308:72
    pselect6_time64:-:413:- pwrite64:18:181:68 pwritev:296:334:70 pwritev2:328:379:287 quotactl_fd:443:443:443 read:0:3:63
    readahead:187:225:213 readv:19:145:65 reboot:169:88:142 recvfrom:45:371:207 recvmmsg:299:337:243
    recvmmsg_time64:-:417:- recvmsg:47:372:212 remap_file_pages:216:257:234 restart_syscall:219:0:128 rseq:334:386:293
    rt_sigaction:13:174:134 rt_sigpending:127:176:136 rt_sigprocmask:14:175:135 rt_sigqueueinfo:129:178:138
    rt_sigreturn:15:173:139 rt_sigsuspend:130:179:133 rt_sigtimedwait:128:177:137 rt_sigtimedwait_time64:-:421:-
    rt_tgsigqueueinfo:297:335:240 sched_get_priority_max:146:159:125 sched_get_priority_min:147:160:126
    sched_getaffinity:204:242:123 sched_getattr:315:352:275 sched_getparam:143:155:121 sched_getscheduler:145:157:120
    sched_rr_get_interval:148:161:127 sched_rr_get_interval_time64:-:423:- sched_setaffinity:203:241:122
    sched_setattr:314:351:274 sched_setparam:142:154:118 sched_setscheduler:144:156:119 sched_yield:24:158:124
    seccomp:317:354:277 select:23:82:- semctl:66:394:191 semget:64:393:190 semop:65:-:193 semtimedop:220:-:192
    semtimedop_time64:-:420:- sendfile:40:187:71 sendfile64:-:239:- set_mempolicy:238:276:237
    set_mempolicy_home_node:450:450:450 set_robust_list:273:311:99 set_thread_area:205:243:- set_tid_address:218:258:96
    setdomainname:171:121:162 setfsgid:123:139:152 setfsgid32:-:216:- setfsuid:122:138:151 setfsuid32:-:215:-
    setgid:106:46:144 setgid32:-:214:- setgroups:116:81:159 setgroups32:-:206:- sethostname:170:74:161
    setitimer:38:104:103 setns:308:346:268 setpgid:109:57:154 setpriority:141:97:140 setregid:114:71:143
    setregid32:-:204:- setresgid:119:170:149 setresgid32:-:210:- setresuid:117:164:147 setresuid32:-:208:-
    setreuid:113:70:145 setreuid32:-:203:- setrlimit:160:75:- setsid:112:66:157 setsockopt:54:366:208
    settimeofday:164:79:170 setuid:105:23:146 setuid32:-:213:- shmat:30:397:196 shmctl:31:396:195 shmdt:67:398:197
    shmget:29:395:194 shutdown:48:373:210 sigaltstack:131:186:132 signalfd:282:321:- signalfd4:289:327:74
    sigprocmask:-:126:- sigreturn:-:119:- socket:41:359:198 socketpair:53:360:199 splice:275:313:76 statmount:457:457:457
    stime:-:25:- sync:162:36:81 sync_file_range:277:314:84 syncfs:306:344:267 sysinfo:99:116:179 syslog:103:103:116
    tee:276:315:77 tgkill:234:270:131 time:201:13:- timer_create:222:259:107 timer_delete:226:263:111
    timer_getoverrun:225:262:109 timer_gettime:224:261:108 timer_gettime64:-:408:- timer_settime:223:260:110
    timer_settime64:-:409:- timerfd_create:283:322:85 timerfd_gettime:287:326:87 timerfd_gettime64:-:410:-
    timerfd_settime:286:325:86 timerfd_settime64:-:411:- times:100:43:153 tkill:200:238:130 ugetrlimit:-:191:-
    umask:95:60:166 uname:63:122:160 unshare:272:310:97 uretprobe:335:-:- vfork:58:190:- vhangup:153:111:58
    vmsplice:278:316:75 wait4:61:114:260 waitid:247:284:95 waitpid:-:7:- write:1:4:64 writev:20:146:66
"""
"""The calls that may be allowed and are not in `syscalls.TABLE`, which has the others' numbers: name, number on x86-64, i386
and aarch64 ("-" where there is none)."""

NEVER = frozenset({
    "file_getattr", "file_setattr", "oldlstat", "oldstat", "pivot_root", "readdir", "swapoff", "swapon", "uselib",
})  # fmt: skip
"""Of the calls of `syscalls.TABLE` those that no capability allows."""

WITH_CAPABILITY = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": "bpf clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount mount_setattr "
    "move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount "
    "syslog umount umount2 unshare",
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}
"""Calls that are allowed with one of these capabilities only."""


def profile_filter(capability_set: int) -> bytes:
    """The program, as an array of `struct sock_filter`, for a target that has *capability_set*."""
    program: Block = (load(ARCHITECTURE_AT),)
    for architecture in architectures():
        verdicts = _verdicts(architecture, capability_set) | dict.fromkeys(IO_URING, NOSYS)
        by_number = choice(verdicts, _DENY)
        program += if_equal(architecture, (load(NUMBER_AT), *if_at_least(_NEWEST + 1, NOSYS), *by_number))
    return b"".join(program + NOSYS)


def numbers(architecture: int) -> dict[str, int]:
    """Name to number of all calls that may be allowed."""
    column = (AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64).index(architecture) + 1
    rows = (word.split(":") for word in ALLOWED.split())
    nameless = {row[0]: int(row[column]) for row in rows if row[column] != "-"}
    return nameless | {call.name: number for number, call in calls_of(architecture).items() if call.name not in NEVER}


def _verdicts(architecture: int, capability_set: int) -> dict[int, Block]:
    known = numbers(architecture)
    conditional = {name for names in WITH_CAPABILITY.values() for name in names.split()}
    held = (names for name, names in WITH_CAPABILITY.items() if capabilities.has(capability_set, name))
    permitted = {name for names in held for name in names.split()}
    verdicts = {number: ALLOW for name, number in known.items() if name not in conditional or name in permitted}
    for name, number in known.items():
        match name:
            case "clone" if not capabilities.has(capability_set, "SYS_ADMIN"):
                verdicts[number] = (load_argument(0), keep_bits(_NAMESPACES), *if_equal(0, ALLOW), *_DENY)
            case "clone3" if name not in permitted:
                verdicts[number] = NOSYS  # its flags lie in memory, where no filter can look
            case "personality":
                verdicts[number] = (load_argument(0), *if_among(_PERSONALITIES, ALLOW), *_DENY)
            case "socket":
                verdicts[number] = (load_argument(0), *if_equal(_AF_VSOCK, _DENY), *ALLOW)
    return verdicts

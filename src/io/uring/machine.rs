//! What the machine has.

use std::fs;
use std::io;
use std::mem;

/// The CPUs that this process may run on, ascending.
pub fn cpus() -> Vec<usize> {
    let mut cpus: Vec<_> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    cpus.sort_unstable();
    cpus
}

/// Bytes of memory that this process may use: the machine's, or less where its control group says so.
pub fn memory_bytes() -> io::Result<u64> {
    let told = fs::read_to_string("/proc/meminfo")?;
    let total = told.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let total = total.ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))?;
    let bytes = total.saturating_mul(1024);
    Ok(group_limit_bytes().map_or(bytes, |limit| limit.min(bytes)))
}

/// The tightest `memory.max` from this process's control group (version 2) up.
fn group_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = std::path::Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/'));
    let limits = own.ancestors().take_while(|group| group.starts_with("/sys/fs/cgroup"));
    limits
        .filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok())
        .min()
}

/// Bytes of this process that are in memory now.
pub fn process_resident_bytes() -> io::Result<u64> {
    let told = fs::read_to_string("/proc/self/statm")?;
    let pages = told
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm has no resident pages"))?;
    // SAFETY: a plain call.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages.saturating_mul(u64::try_from(page_bytes).unwrap_or(4096)))
}

/// Seconds of CPU time (user and system) that this process has used.
pub fn process_cpu_seconds() -> f64 {
    // SAFETY: all-zero is a valid `rusage`, which the call overwrites.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Nanoseconds of CLOCK_MONOTONIC, the same on all shards.
pub(super) fn monotonic_ns() -> u64 {
    // SAFETY: the kernel writes one `timespec` that outlives the call; this clock always exists.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Announces that this process will use memory barriers between its threads, as glommio does when it first goes to sleep. To be
/// called while there is one thread only: then it is free, later the kernel waits for all CPUs (8 to 25 ms, Linux 6.18).
pub(super) fn announce_barriers() {
    // SAFETY: a plain call. One that fails changes nothing: glommio asks again.
    unsafe {
        libc::syscall(
            libc::SYS_membarrier,
            libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
            0,
            0,
        )
    };
}

/// The part of `struct sched_attr` that every kernel with `sched_setattr` knows (Linux 3.14).
#[repr(C)]
#[derive(Default)]
struct Scheduling {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// What a thread of a shard gets of its core at a time, where others want it.
const SLICE_NS: u64 = 100_000;

/// Has the calling thread, and those that it starts, scheduled in short turns: it gets no more time than before, but is not kept waiting
/// by those who compute (beside two of them p99 of produce was 1.2 ms, not 2.8). Linux 6.12 and later; others take no notice. Who runs
/// it under another policy than the usual one knows better.
pub(super) fn take_short_turns() {
    let Some(mut scheduling) = scheduling() else { return };
    if scheduling.policy == libc::SCHED_OTHER as u32 {
        scheduling.runtime_ns = SLICE_NS;
        // SAFETY: the kernel reads `size` bytes of it. An error changes nothing.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const scheduling, 0) };
    }
}

/// The calling thread's; `None` where that may not be asked.
fn scheduling() -> Option<Scheduling> {
    let mut scheduling = Scheduling::default();
    let size = mem::size_of::<Scheduling>() as u32;
    // SAFETY: the kernel writes at most `size` bytes into the structure.
    let told = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut scheduling, size, 0) };
    scheduling.size = size;
    (told == 0).then_some(scheduling)
}

/// The kernel's random id of this boot; 0 where /proc does not tell it.
pub(super) fn boot_id() -> u128 {
    let told = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&told.trim().replace('-', ""), 16).unwrap_or(0)
}

/// Gives what the allocator keeps of freed memory back to the machine.
pub(super) fn trim_heap() {
    // SAFETY: it takes a number, and touches no memory that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Fills `into` from the kernel's generator.
pub(super) fn fill_random(into: &mut [u64]) {
    let bytes = mem::size_of_val(into);
    assert!(bytes <= 256, "more could be interrupted");
    // SAFETY: the kernel writes `bytes` bytes into the slice.
    let filled = unsafe { libc::getrandom(into.as_mut_ptr().cast(), bytes, 0) };
    assert_eq!(filled, bytes as isize, "the kernel's random generator answers");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_change_nothing_else() {
        let compare = || {
            let before = scheduling().expect("told");
            take_short_turns();
            let after = scheduling().expect("told");
            // A kernel that knows no such turns (before 6.12) tells none.
            let expected = if before.runtime_ns == 0 { 0 } else { SLICE_NS };
            assert_eq!(after.runtime_ns, expected);
            assert_eq!((before.policy, before.nice), (after.policy, after.nice));
        };
        std::thread::spawn(compare).join().expect("no more than that");
    }
}

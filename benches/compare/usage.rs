//! What the machine spends: processor time and memory, as the kernel counts them.

use std::fs::{read_dir, read_link, read_to_string};

use super::lab::Fault;

/// Seconds of processor time.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// By the contender's processes, in user space and in the kernel on their behalf.
    pub processes: f64,
    /// By the whole machine, with both ends and all interrupts.
    pub machine: f64,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// By the contender's processes, what they share counted once.
    pub processes: f64,
    /// By the kernel: sockets, connection tracking, page tables, stacks.
    pub kernel: f64,
}

/// What had been spent by now; `process` is the first of the contender's.
pub fn spent(process: Option<i32>) -> Result<Spent, Fault> {
    let ticks = 1.0 / rustix::param::clock_ticks_per_second() as f64;
    let mut processes = 0.0;
    for number in family(process)? {
        // Those that ended since they were listed are in their parent's sum.
        let Ok(stat) = read_to_string(format!("/proc/{number}/stat")) else { continue };
        let fields = stat.rsplit_once(") ").ok_or("a process without a name")?.1;
        // utime, stime, cutime, cstime.
        processes += numbers(fields).skip(10).take(4).sum::<f64>() * ticks;
    }
    let stat = read_to_string("/proc/stat")?;
    // user, nice, system, [idle, iowait], irq, softirq: what was stolen or given to guests is not ours.
    let all: Vec<f64> = numbers(stat.lines().next().unwrap_or_default()).collect();
    let &[user, nice, system, _, _, irq, softirq, ..] = all.as_slice() else { return Err("an odd /proc/stat".into()) };
    Ok(Spent { processes, machine: (user + nice + system + irq + softirq) * ticks })
}

/// What is held now.
pub fn held(process: Option<i32>) -> Result<Held, Fault> {
    let mut processes = 0.0;
    for number in family(process)? {
        let Ok(rollup) = read_to_string(format!("/proc/{number}/smaps_rollup")) else { continue };
        processes += sum_of(&rollup, &["Pss"]);
    }
    let kernel = sum_of(&read_to_string("/proc/meminfo")?, &["Slab", "KernelStack", "PageTables"]);
    Ok(Held { processes, kernel })
}

/// The numbers of all processes in the process namespace of this one.
fn family(process: Option<i32>) -> Result<Vec<i32>, Fault> {
    let Some(process) = process else { return Ok(Vec::new()) };
    let namespace = |number: i32| read_link(format!("/proc/{number}/ns/pid"));
    let own = namespace(process)?;
    let all = read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(all.filter(|number| namespace(*number).is_ok_and(|other| other == own)).collect())
}

fn numbers(line: &str) -> impl Iterator<Item = f64> {
    line.split_whitespace().filter_map(|field| field.parse().ok())
}

/// The sum, in bytes, of lines like `Slab:   123 kB`.
fn sum_of(text: &str, names: &[&str]) -> f64 {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| names.contains(name)).filter_map(|(_, value)| numbers(value).next()).sum::<f64>() * 1024.0
}

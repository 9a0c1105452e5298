//! Compiles the XDP program and makes its skeleton.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut arguments: Vec<OsString> = ["-mcpu=v3", "-Wall", "-Wextra", "-Werror"].map(Into::into).into();
    // libbpf's own headers, of the version this crate links.
    if let Some(include) = env::var_os("DEP_BPF_INCLUDE") {
        arguments.extend(["-I".into(), include]);
    }
    // <asm/types.h> lives in a directory of the machine's architecture on Debian.
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    arguments.extend(["-idirafter".into(), format!("/usr/include/{architecture}-linux-gnu").into()]);
    for source in ["steer.bpf.c", "parse.h", "hash.h", "layout.h", "forward.h", "tag.h"] {
        println!("cargo:rerun-if-changed=src/{source}");
    }
    SkeletonBuilder::new()
        .source("src/steer.bpf.c")
        .clang_args(arguments)
        .build_and_generate(out.join("steer.skel.rs"))
        .expect("the XDP program compiles: needs clang, llvm and linux-libc-dev");
}

//! Measurements of Virga beside its peers, in one run on one machine.
//!
//! Figures from different days and machines say little; the ratio of two programs that did the same thing in turns
//! says something. So each group ([`vmm`], [`guest`], [`container`], [`api`], [`launch`]) runs all contenders in the same round
//! and reports [`report::Row`]s. What cannot be measured is reported with the reason and never guessed.
//!
//! `virga bench` and `ci/bench` are the ways to [`run`](run::run) it. These are not tests: nothing here fails because a number is bad. Everything that is started is ended with the value
//! that stands for it, also on errors and on Ctrl-C ([`interrupt`], [`process`]).

pub mod api;
pub mod container;
mod contender;
pub mod daemon;
pub mod guest;
pub mod http;
pub mod interrupt;
pub mod launch;
pub mod machine;
pub mod memory;
mod network;
pub mod plot;
pub mod process;
pub mod report;
pub mod run;
pub mod setting;
pub mod stats;
pub mod vmm;
mod watch;

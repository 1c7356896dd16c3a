//! `CLUSTER`, on the port for cluster-aware clients.

use lariat_actors::slot::{SLOTS, Slot, slot_of};

use super::args::{Args, Refusal, unknown_subcommand, wrong_arguments};
use super::help::help;
use super::plan::{Planned, Planner};
use super::topology::node_id;
use super::walk::{Slow, Work};

/// `CLUSTER SLOTS | SHARDS | NODES | INFO | MYID | KEYSLOT | COUNTKEYSINSLOT | GETKEYSINSLOT`
pub fn cluster(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    if !p.gateway.is_cluster() {
        return Err("ERR This instance has cluster support disabled".into());
    }
    let name = args[1].to_ascii_lowercase();
    let wanted = match &name[..] {
        b"slots" | b"shards" | b"nodes" | b"info" | b"myid" => 2,
        b"keyslot" | b"countkeysinslot" => 3,
        b"getkeysinslot" => 4,
        b"help" => return help(p, args),
        _ => return Err(unknown_subcommand(args)),
    };
    if args.len() != wanted {
        let name = args.text(1).to_lowercase();
        return Err(wrong_arguments(&format!("cluster|{name}")));
    }
    let gateway = p.gateway;
    let protocol = p.session.protocol;
    let out = p.reply();
    match &name[..] {
        b"slots" => out.raw(gateway.topology().slots(protocol)),
        b"shards" => out.raw(gateway.topology().shards(protocol)),
        b"nodes" => out.verbatim(&gateway.topology().nodes),
        b"info" => out.verbatim(&gateway.topology().info),
        b"myid" => {
            let client = &gateway.client;
            out.bulk(node_id(&client.cluster().name, client.id()).as_bytes());
        }
        b"keyslot" => out.integer(i64::from(slot_of(&args[2]))),
        b"countkeysinslot" => {
            let slot = slot(args)?.ok_or("ERR Invalid slot")?;
            return p.slow(Slow::new(Work::CountInSlot(slot)));
        }
        _ => {
            let (slot, most) = (slot(args)?, usize::try_from(args.integer(3)?).ok());
            let (slot, most) = slot.zip(most).ok_or("ERR Invalid slot or number of keys")?;
            return p.slow(Slow::new(Work::KeysInSlot(slot, most)));
        }
    }
    Ok(())
}

/// The slot that is asked for, if there is one of this number.
fn slot(args: Args<'_>) -> Result<Option<Slot>, Refusal> {
    let given = args.integer(2)?;
    Ok(Slot::try_from(given).ok().filter(|&slot| slot < SLOTS))
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import {Handler} from "./Handler.sol";
import "./Site.sol";
import {Vm, vm} from "./Vm.sol";

/// The operator's `MOVED`, and the contract that succeeds another: `replay`.
contract MovingTest is Site {
    SealcastLedger private former;
    SealcastLedger private successor;
    uint16 private plant;
    address private pump;

    /// What the former contract's events tell.
    SealcastLedger.Submission[] private entries;
    uint64[] private times;
    bytes32[] private heads;

    function setUp() public override {
        super.setUp();
        former = ledger;
        successor = deploy(uint64(block.chainid), address(former));
        vm.recordLogs();
        plant = group("plant");
        vm.warp(START + 3);
        pump = member("pump", plant);
        commit(plant, pump);
        vm.warp(START + 5);
    }

    function move(SealcastLedger to) private {
        take(MOVED, operator, moving(to));
    }

    /// Reads all events since the last call.
    function read() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].topics[0] != SealcastLedger.Entry.selector) continue;
            (uint64 nonce, uint64 time, bytes memory body, bytes memory signature, bytes32 head) =
                abi.decode(logs[i].data, (uint64, uint64, bytes, bytes, bytes32));
            address originator = address(uint160(uint256(logs[i].topics[2])));
            uint8 kind = uint8(uint256(logs[i].topics[3]));
            entries.push(SealcastLedger.Submission(kind, originator, nonce, body, signature));
            times.push(time);
            heads.push(head);
        }
    }

    /// Replays what was read, from this place up to that one.
    function replay(SealcastLedger into, uint256 from, uint256 to) private {
        into.replay(slice(from, to), sliceOfTimes(from, to));
        vm.assertEq(into.height(), to, "height");
        vm.assertEq(into.head(), heads[to - 1], "head");
    }

    function slice(uint256 from, uint256 to) private view returns (SealcastLedger.Submission[] memory some) {
        some = new SealcastLedger.Submission[](to - from);
        for (uint256 i = from; i < to; i++) some[i - from] = entries[i];
    }

    function sliceOfTimes(uint256 from, uint256 to) private view returns (uint64[] memory some) {
        some = new uint64[](to - from);
        for (uint256 i = from; i < to; i++) some[i - from] = times[i];
    }

    /// What replays entries must be refused with exactly this error, and without a trace.
    function refuseReplay(
        SealcastLedger.Submission[] memory some,
        uint64[] memory when,
        bytes memory expected
    ) private {
        ledger = successor;
        refuseCall(abi.encodeCall(successor.replay, (some, when)), expected);
        ledger = former;
    }

    function notHere(SealcastLedger there) private view returns (bytes memory) {
        return abi.encodeWithSelector(SealcastLedger.NotHere.selector, uint64(block.chainid), address(there));
    }

    function requireAt(SealcastLedger asked, SealcastLedger there) private view {
        (uint64 chainId, address contract_) = asked.current();
        vm.assertEq(chainId, block.chainid, "the current chain");
        vm.assertEq(contract_, address(there), "the current contract");
    }

    // ------------------------------------------------------------------------------------------------------- moving

    function test_a_new_ledger_is_the_first_and_has_no_predecessor() public view {
        (uint64 chainId, address contract_) = former.first();
        vm.assertEq(chainId, block.chainid, "the first chain");
        vm.assertEq(contract_, address(former), "the first contract");
        requireAt(former, former);
        (chainId, contract_,,) = former.predecessor();
        vm.assertEq(contract_, address(0), "predecessor");
        vm.assertEq(former.replayer(), address(0), "replayer");
    }

    function test_a_ledger_that_has_moved_takes_no_entry() public {
        bytes memory signedBefore = submission(DEVICE_REGISTERED, ca, registration("lamp", 7));
        move(successor);
        requireAt(former, successor);
        refuseCall(signedBefore, notHere(successor));
        refuse(DEVICE_REGISTERED, ca, registration("lamp", 7), notHere(successor));
        refuse(MOVED, operator, moving(former), notHere(successor));
        SealcastLedger.Submission[] memory none = new SealcastLedger.Submission[](1);
        vm.recordLogs();
        former.submitMany(none);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1, "events");
        vm.assertEq(abi.decode(logs[0].data, (bytes)), notHere(successor), "why it is refused");
    }

    function test_moving_to_itself_changes_nothing() public {
        move(former);
        requireAt(former, former);
        device("lamp");
    }

    // ---------------------------------------------------------------------------------------------------- replaying

    function test_a_successor_goes_on_with_the_same_history() public {
        move(successor);
        read();
        vm.recordLogs();
        replay(successor, 0, 2);
        replay(successor, 2, entries.length);
        uint256 count = entries.length;
        read();
        for (uint256 i = 0; i < count; i++) {
            vm.assertEq(heads[count + i], heads[i], "the head of the same event");
            vm.assertEq(uint256(times[count + i]), times[i], "its time");
        }
        vm.assertEq(successor.head(), former.head(), "head");
        vm.assertEq(successor.height(), former.height(), "height");
        vm.assertEq(successor.lastTime(), former.lastTime(), "lastTime");
        (uint64 chainId, address contract_, uint64 height, bytes32 head) = successor.predecessor();
        vm.assertEq(chainId, block.chainid, "the predecessor's chain");
        vm.assertEq(contract_, address(former), "the predecessor");
        vm.assertEq(height, former.height(), "its height");
        vm.assertEq(head, former.head(), "its final head");

        // Everybody has the number, the nonce and the rights as before, and signs for the new contract.
        requireAt(successor, successor);
        (chainId, contract_) = successor.first();
        vm.assertEq(contract_, address(former), "the first contract");
        ledger = successor;
        vm.assertEq(ledger.numberOf("pump"), pump, "a device's number");
        vm.assertTrue(ledger.granted(plant, pump), "its grant");
        commit(plant, pump);
        take(KEY_ROTATED, operator, rotation(operator, 8));
        keyOf[operator] = 8;
        take(REVOKED, operator, abi.encode(plant, pump, "gone"));
    }

    function test_an_entry_for_the_former_contract_is_none_for_the_successor() public {
        bytes memory signedBefore = submission(DEVICE_REGISTERED, ca, registration("lamp", 7));
        move(successor);
        read();
        replay(successor, 0, entries.length);
        ledger = successor;
        refuseCall(signedBefore, abi.encodeWithSelector(SealcastLedger.BadSignature.selector));
    }

    function test_until_all_was_replayed_nothing_is_submitted() public {
        move(successor);
        read();
        ledger = successor;
        refuse(DEVICE_REGISTERED, ca, registration("lamp", 7), notHere(former));
        replay(successor, 0, entries.length - 1);
        refuse(DEVICE_REGISTERED, ca, registration("lamp", 7), notHere(former));
        (, address contract_, uint64 height,) = successor.predecessor();
        vm.assertEq(contract_, address(0), "no predecessor yet");
        vm.assertEq(height, 0, "nor its height");
    }

    function test_what_is_replayed_is_in_order() public {
        read();
        bytes memory unknown = abi.encodeWithSelector(SealcastLedger.UnknownDevice.selector, pump);
        refuseReplay(slice(2, 4), sliceOfTimes(2, 4), abi.encodeWithSelector(SealcastLedger.BadNonce.selector, 0, 1));
        refuseReplay(slice(3, 4), sliceOfTimes(3, 4), unknown);
        // All or nothing: what stands before the one that is refused leaves no trace.
        SealcastLedger.Submission[] memory some = slice(0, 2);
        some[1] = entries[3];
        refuseReplay(some, sliceOfTimes(0, 2), unknown);
        replay(successor, 0, 2);
        refuseReplay(slice(0, 1), sliceOfTimes(1, 2), abi.encodeWithSelector(SealcastLedger.BadNonce.selector, 1, 0));
    }

    function test_times_do_not_go_back_and_are_in_the_head() public {
        read();
        uint64[] memory when = sliceOfTimes(0, 2);
        when[1] = when[0] - 1;
        bytes memory back = abi.encodeWithSelector(SealcastLedger.ClockWentBack.selector, when[0], uint256(when[1]));
        refuseReplay(slice(0, 2), when, back);
        when[1] = times[1] + 1;
        successor.replay(slice(0, 2), when);
        vm.assertTrue(successor.head() != heads[1], "another time is another history");
    }

    function test_what_nobody_has_signed_is_not_replayed() public {
        read();
        SealcastLedger.Submission[] memory some = slice(0, 1);
        some[0].body[some[0].body.length - 1] ^= 0x01;
        refuseReplay(some, sliceOfTimes(0, 1), abi.encodeWithSelector(SealcastLedger.BadSignature.selector));
        // Nor what was signed for the successor.
        ledger = successor;
        uint64 nonce = 0;
        bytes memory body = registration("lamp", 7);
        bytes memory preimage = abi.encodePacked(
            "sealcast-entry-v1", uint64(block.chainid), address(successor), DEVICE_REGISTERED, ca, nonce, body
        );
        some[0] = SealcastLedger.Submission(DEVICE_REGISTERED, ca, nonce, body, sign(CA_KEY, sha256(preimage)));
        refuseReplay(some, sliceOfTimes(0, 1), abi.encodeWithSelector(SealcastLedger.BadSignature.selector));
    }

    function test_times_must_come_with_the_entries() public {
        read();
        (bool taken,) = address(successor).call(abi.encodeCall(successor.replay, (slice(0, 2), sliceOfTimes(0, 1))));
        vm.assertTrue(!taken, "one time is missing");
        vm.assertEq(successor.height(), 0, "height");
    }

    function test_nobody_else_replays() public {
        read();
        vm.assertEq(successor.replayer(), address(this), "replayer");
        bytes memory call = abi.encodeCall(successor.replay, (slice(0, 1), sliceOfTimes(0, 1)));
        vm.prank(address(7));
        (bool taken, bytes memory refusal) = address(successor).call(call);
        vm.assertTrue(!taken, "refused");
        bytes memory expected = abi.encodeWithSelector(SealcastLedger.MayNotReplay.selector, address(this));
        vm.assertEq(refusal, expected, "why");
    }

    function test_nothing_is_replayed_into_a_ledger_that_is_complete_or_has_no_predecessor() public {
        bytes memory nobody = abi.encodeWithSelector(SealcastLedger.MayNotReplay.selector, address(0));
        move(successor);
        read();
        refuseCall(abi.encodeCall(former.replay, (slice(0, 1), sliceOfTimes(0, 1))), nobody);
        replay(successor, 0, entries.length);
        refuseReplay(slice(0, 1), sliceOfTimes(0, 1), nobody);
    }

    /// Not even in the transaction that brings the last entry.
    function test_moved_is_the_last_entry_that_is_replayed() public {
        move(successor);
        read();
        entries.push(entries[0]);
        times.push(times[times.length - 1]);
        bytes memory nobody = abi.encodeWithSelector(SealcastLedger.MayNotReplay.selector, address(0));
        refuseReplay(slice(0, entries.length), sliceOfTimes(0, entries.length), nobody);
    }

    // ------------------------------------------------------------------------------------------------------ lineage

    function test_a_ledger_moves_again_with_all_its_history() public {
        SealcastLedger last = deploy(uint64(block.chainid), address(former));
        move(successor);
        read();
        replay(successor, 0, entries.length);
        ledger = successor;
        vm.recordLogs();
        member("lamp", plant);
        move(last);
        read();
        ledger = last;
        // The history has gone to another contract than this: it is not complete yet.
        replay(last, 0, former.height());
        requireAt(last, successor);
        refuse(DEVICE_REGISTERED, ca, registration("valve", 7), notHere(successor));
        replay(last, former.height(), entries.length);
        requireAt(last, last);
        (, address contract_, uint64 height, bytes32 head) = last.predecessor();
        vm.assertEq(contract_, address(successor), "predecessor");
        vm.assertEq(height, successor.height(), "its height");
        vm.assertEq(head, successor.head(), "its final head");
        device("valve");
    }

    /// The same address on another chain is another contract.
    function test_a_move_names_the_chain() public {
        take(MOVED, operator, abi.encode(uint64(block.chainid) + 1, address(successor)));
        read();
        replay(successor, 0, entries.length);
        (uint64 chainId, address contract_) = successor.current();
        vm.assertEq(chainId, block.chainid + 1, "the current chain");
        vm.assertEq(contract_, address(successor), "the current contract");
        ledger = successor;
        bytes memory call = submission(DEVICE_REGISTERED, ca, registration("lamp", 7));
        refuseCall(
            call,
            abi.encodeWithSelector(SealcastLedger.NotHere.selector, uint64(block.chainid) + 1, address(successor))
        );
    }

    function test_whatever_was_taken_is_replayed_to_the_same_head() public {
        Handler handler = new Handler();
        former = handler.theLedger();
        for (uint256 seed = 0; seed < 400; seed++) handler.step(seed);
        successor = handler.move();
        vm.assertTrue(former.height() > 100, "there is much to replay");
        vm.assertEq(successor.head(), former.head(), "head");
        requireAt(successor, successor);
        for (uint16 number = 1; number <= former.groupCount(); number++) {
            (uint32 generation, uint64 epoch) = former.epochOf(number);
            (uint32 generationNow, uint64 epochNow) = successor.epochOf(number);
            vm.assertEq(uint256(generationNow), generation, "generation");
            vm.assertEq(uint256(epochNow), epoch, "epoch");
            for (uint256 i = 3; i < 8; i++) {
                address who = handler.everybody(i);
                bool granted = former.granted(number, who);
                vm.assertTrue(successor.granted(number, who) == granted, "a grant");
            }
        }
    }
}

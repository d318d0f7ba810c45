// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import "./Site.sol";
import {Vm, vm} from "./Vm.sol";

/// `submitMany`: many entries in one transaction.
contract ManyTest is Site {
    uint16 private plant;
    address private pump;
    address private lamp;
    SealcastLedger.Submission[] private batch;

    function setUp() public override {
        super.setUp();
        plant = group("plant");
        pump = member("pump", plant);
        lamp = device("lamp");
    }

    /// As the entry behind those that are in the batch.
    function add(uint8 kind, address originator, bytes memory body) private {
        uint64 nonce = ledger.nonceOf(originator);
        for (uint256 i = 0; i < batch.length; i++) if (batch[i].originator == originator) nonce += 1;
        bytes memory signature = sign(keyOf[originator], ledger.digestOf(kind, originator, nonce, body));
        batch.push(SealcastLedger.Submission(kind, originator, nonce, body, signature));
    }

    /// What is taken for one after the other is taken for all at once, with the same head.
    function test_many_entries_are_as_each_by_itself() public {
        add(GRANTED, operator, abi.encode(plant, lamp));
        add(COMMIT, pump, abi.encode(plant, uint32(0), uint64(0), bytes("commit")));
        add(COMMIT, lamp, abi.encode(plant, uint32(0), uint64(1), bytes("commit")));
        add(GROUP_RESET, operator, abi.encode(plant, "leak"));
        uint256 before = vm.snapshotState();
        for (uint256 i = 0; i < batch.length; i++) {
            SealcastLedger.Submission memory e = batch[i];
            ledger.submit(e.kind, e.originator, e.nonce, e.body, e.signature);
        }
        (bytes32 head, uint64 height) = (ledger.head(), ledger.height());
        vm.assertTrue(vm.revertToState(before), "begin again");
        ledger.submitMany(batch);
        vm.assertEq(ledger.head(), head, "head");
        vm.assertEq(ledger.height(), height, "height");
    }

    function test_no_entry_is_nothing() public {
        bytes32 head = ledger.head();
        vm.recordLogs();
        ledger.submitMany(batch);
        vm.assertEq(vm.getRecordedLogs().length, 0, "events");
        vm.assertEq(ledger.head(), head, "head");
    }

    function test_a_refused_entry_is_told_and_keeps_no_other_originators_out() public {
        add(GRANTED, operator, abi.encode(plant, lamp));
        add(GRANTED, operator, abi.encode(plant, pump)); // is a member already
        add(GROUP_RESET, operator, abi.encode(plant, "leak")); // behind what was refused
        add(COMMIT, pump, abi.encode(plant, uint32(0), uint64(0), bytes("commit")));
        batch.push(batch[3]); // twice
        add(DEVICE_REVOKED, ca, hex"ff");
        uint64 height = ledger.height();
        uint64 nonce = ledger.nonceOf(operator);
        vm.recordLogs();
        ledger.submitMany(batch);

        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 6, "events");
        taken(logs[0], height);
        refused(logs[1], 1, abi.encodeWithSelector(SealcastLedger.AlreadyGranted.selector, plant, pump));
        refused(logs[2], 2, abi.encodeWithSelector(SealcastLedger.BadNonce.selector, nonce + 1, nonce + 2));
        taken(logs[3], height + 1);
        refused(logs[4], 4, abi.encodeWithSelector(SealcastLedger.BadNonce.selector, 1, 0));
        refused(logs[5], 5, "");
        vm.assertEq(ledger.height(), height + 2, "height");
    }

    function taken(Vm.Log memory log, uint64 index) private pure {
        vm.assertEq(log.topics[0], SealcastLedger.Entry.selector, "taken");
        vm.assertEq(uint256(log.topics[1]), index, "its index");
    }

    function refused(Vm.Log memory log, uint256 position, bytes memory refusal) private pure {
        vm.assertEq(log.topics[0], SealcastLedger.Refused.selector, "refused");
        vm.assertEq(uint256(log.topics[1]), position, "its position");
        vm.assertEq(log.data, abi.encode(refusal), "why");
    }

    /// However little gas: what ran out of it is not said to be refused, and nothing of it is on the ledger.
    /// The entries are dear ones: the 64th part of their gas suffices to tell of them.
    function test_who_gives_too_little_gas_is_told_nothing_else() public {
        string[] memory filters = new string[](16);
        for (uint256 i = 0; i < 16; i++) filters[i] = text(241 + i, "f");
        add(GROUP_CREATED, operator, creation("big", filters, 0));
        for (uint256 i = 0; i < 16; i++) filters[i] = text(241 + i, "g");
        add(GROUP_CREATED, operator, creation("other", filters, 0));
        bytes memory call = abi.encodeCall(ledger.submitMany, (batch));
        (bytes32 head, bool ranOutFirst, bool ranOutSecond) = (ledger.head(), false, false);
        for (uint256 gas_ = 6_000_000; true; gas_ += 150_000) {
            vm.assertTrue(gas_ < 16_000_000, "enough for two entries");
            uint256 before = vm.snapshotState();
            vm.recordLogs();
            (bool done, bytes memory refusal) = address(ledger).call{gas: gas_}(call);
            Vm.Log[] memory logs = vm.getRecordedLogs();
            if (done) {
                vm.assertEq(logs[0].topics[0], SealcastLedger.Entry.selector, "the first");
                vm.assertEq(logs[1].topics[0], SealcastLedger.Entry.selector, "the second");
                break;
            }
            // Where not even this could be said there are no words at all.
            bool first = keccak256(refusal) == keccak256(abi.encodeWithSelector(SealcastLedger.OutOfGas.selector, 0));
            bool second = keccak256(refusal) == keccak256(abi.encodeWithSelector(SealcastLedger.OutOfGas.selector, 1));
            vm.assertTrue(refusal.length == 0 || first || second, "why");
            vm.assertEq(ledger.head(), head, "head");
            ranOutFirst = ranOutFirst || first;
            ranOutSecond = ranOutSecond || second;
            vm.revertToState(before);
        }
        vm.assertTrue(ranOutFirst && ranOutSecond, "told so at each entry");
    }
}

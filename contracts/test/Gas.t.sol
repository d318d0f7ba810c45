// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import "./Site.sol";
import {vm} from "./Vm.sol";

/// What each kind of entry costs as a transaction of its own, with its calldata: the rows of gas.md.
/// forge-config: default.isolate = true
contract GasTest is Site {
    uint16 private plant;
    address private pump;

    function setUp() public override {
        super.setUp();
        plant = group("plant");
        pump = member("pump", plant);
    }

    function measure(string memory what, uint8 kind, address originator, bytes memory body) private {
        bytes memory call = submission(kind, originator, body);
        (bool taken,) = address(ledger).call(call);
        vm.snapshotGasLastCall("Gas", what);
        vm.assertTrue(taken, what);
    }

    function test_devices() public {
        measure("device registered: first", DEVICE_REGISTERED, ca, registration("lamp", 7));
        measure("device registered: renewed", DEVICE_REGISTERED, ca, registration("lamp", 7));
        measure("device registered: another key", DEVICE_REGISTERED, ca, registration("lamp", 8));
        measure("keys published", KEYS_PUBLISHED, pump, abi.encode(bytes32("package"), certificateOf("pump"), false));
        measure("device revoked", DEVICE_REVOKED, ca, abi.encode(pump, "lost"));
    }

    function test_keys() public {
        measure("key rotated: operator", KEY_ROTATED, operator, rotation(operator, 8));
        measure("key rotated: CA", KEY_ROTATED, root, rotation(ca, 9));
        keyOf[operator] = 8;
        measure("moved", MOVED, operator, moving(deploy(uint64(block.chainid), address(ledger))));
    }

    function test_groups() public {
        measure("group created: 1 filter", GROUP_CREATED, operator, creation("lamps", "lamps/#"));
        string[] memory filters = new string[](16);
        for (uint256 i = 0; i < 16; i++) filters[i] = text(241 + i, "f");
        measure("group created: 16 filters of 250 bytes", GROUP_CREATED, operator, creation("big", filters, 0));
        address lamp = device("lamp");
        measure("granted: first", GRANTED, operator, abi.encode(plant, lamp));
        measure("revoked", REVOKED, operator, abi.encode(plant, lamp, "gone"));
        measure("granted: again", GRANTED, operator, abi.encode(plant, lamp));
        measure("group reset", GROUP_RESET, operator, abi.encode(plant, "leak"));
    }

    function test_commits() public {
        commit(plant, pump);
        measureCommit("commit: 1 KiB", 1, 1024);
        measureCommit("commit: 8 KiB", 2, 8 * 1024);
        measureCommit("commit: the longest", 3, 96 * 1024 - 160);
        measure("anchor", ANCHOR, pump, abi.encode(plant, keccak256("root"), uint32(1000)));
    }

    /// Of bytes that are seldom zero, as those of a commit are.
    function measureCommit(string memory what, uint64 epoch, uint256 length) private {
        measure(what, COMMIT, pump, abi.encode(plant, uint32(0), epoch, bytes(text(length, 0xc5))));
    }

    function test_reports() public {
        commit(plant, pump);
        measureReport("fault reported: group of 1");
        for (uint256 i = 0; i < 99; i++) member(string.concat("d", vm.toString(i)), plant);
        take(GROUP_RESET, operator, abi.encode(plant, "new"));
        commit(plant, pump);
        measureReport("fault reported: group of 100");
    }

    function measureReport(string memory what) private {
        (uint32 generation, uint64 epoch) = ledger.epochOf(plant);
        measure(what, FAULT_REPORTED, pump, abi.encode(plant, generation, epoch - 1, true));
    }

    function test_readings() public {
        measure("limits set: first, anybody", LIMITS_SET, operator, limits(new address[](0)));
        measure("limits set: again, anybody", LIMITS_SET, operator, limits(new address[](0)));
        measureReading("reading: first of a topic", 1, 200);
        measureReading("reading: next", 2, 201);
        measureReading("reading: that breaks a limit", 3, 2000);
        address[] memory all = new address[](64);
        for (uint256 i = 0; i < 64; i++) all[i] = device(string.concat("d", vm.toString(i)));
        measure("limits set: 64 reporters", LIMITS_SET, operator, limits(all));
    }

    function limits(address[] memory who) private view returns (bytes memory) {
        return abi.encode(
            plant, "plant/hall/t", int128(-500), int128(1000), uint128(50), uint8(1), unicode"°C", true, who.length > 0, who
        );
    }

    function measureReading(string memory what, uint64 sequence, int128 value) private {
        bytes memory body = abi.encode(plant, "plant/hall/t", uint64(START * 1000), sequence, value, uint8(1));
        measure(what, READING, pump, body);
    }

    function test_many() public {
        measureMany("32 grants together: each", 32);
        measureMany("1 grant alone in submitMany", 1);
    }

    function measureMany(string memory what, uint256 count) private {
        SealcastLedger.Submission[] memory batch = new SealcastLedger.Submission[](count);
        for (uint256 i = 0; i < count; i++) {
            bytes memory body = abi.encode(plant, device(string.concat(vm.toString(count), "-", vm.toString(i))));
            uint64 nonce = ledger.nonceOf(operator) + uint64(i);
            bytes memory signature = sign(OPERATOR_KEY, ledger.digestOf(GRANTED, operator, nonce, body));
            batch[i] = SealcastLedger.Submission(GRANTED, operator, nonce, body, signature);
        }
        uint64 height = ledger.height();
        ledger.submitMany(batch);
        vm.snapshotValue("Gas", what, vm.lastCallGas().gasTotalUsed / count);
        vm.assertEq(ledger.height(), height + count, what);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import "./Site.sol";
import {Vm, vm} from "./Vm.sol";

uint8 constant ACCEPTED = 0;
uint8 constant NOT_A_REPORTER = 1;
uint8 constant SEQUENCE_NOT_GREATER = 2;
uint8 constant SEQUENCE_GAP = 3;
uint8 constant TOO_PRECISE = 4;
uint8 constant BELOW_MIN = 5;
uint8 constant ABOVE_MAX = 6;
uint8 constant STEP_TOO_LARGE = 7;

/// What readings must keep to, and whether they do: LIMITS_SET, READING.
contract ReadingsTest is Site {
    string internal constant TOPIC = "plant/t";

    uint16 internal plant;
    address internal pump;

    function setUp() public override {
        super.setUp();
        plant = group("plant");
        pump = member("pump", plant);
    }

    // -------------------------------------------------------------------------------------------------- LIMITS_SET

    function test_limits_are_what_the_owner_says() public {
        bytes memory none = abi.encodeWithSelector(SealcastLedger.NoLimits.selector, plant, TOPIC);
        refuseView(abi.encodeCall(ledger.limitsOf, (plant, TOPIC)), none);
        take(LIMITS_SET, operator, limits(TOPIC, -5, 99, 7, true, only(pump)));
        SealcastLedger.Limits memory l = ledger.limitsOf(plant, TOPIC);
        vm.assertEq(int256(l.min), -5, "min");
        vm.assertEq(int256(l.max), 99, "max");
        vm.assertEq(uint256(l.maxStep), 7, "maxStep");
        vm.assertEq(uint256(l.version), 1, "version");
        vm.assertEq(uint256(l.decimals), 1, "decimals");
        vm.assertEq(l.unit, unicode"°C", "unit");
        vm.assertTrue(l.gapless && l.listed, "gapless and listed");
        vm.assertTrue(ledger.mayReport(plant, TOPIC, pump), "mayReport of the listed");
        vm.assertTrue(!ledger.mayReport(plant, TOPIC, device("lamp")), "mayReport of the others");
        take(LIMITS_SET, operator, limits(TOPIC, 0, 1, 0, false, new address[](0)));
        vm.assertEq(uint256(ledger.limitsOf(plant, TOPIC).version), 2, "version");
        vm.assertTrue(ledger.mayReport(plant, TOPIC, ledger.numberOf("lamp")), "mayReport without a list");
    }

    function test_limits_that_are_refused() public {
        address[] memory nobody = new address[](0);
        refuseLimits(limits(TOPIC, 2, 1, 0, false, nobody), SealcastLedger.BadRange.selector, abi.encode(2, 1));
        refuseLimits(
            limits("plant/+", 0, 1, 0, false, nobody), SealcastLedger.BadText.selector, abi.encode("topic", 6)
        );
        refuseLimits(
            limits("", 0, 1, 0, false, nobody), SealcastLedger.BadLength.selector, abi.encode("topic", 0, 1, 1024)
        );
        address stranger = ledger.numberOf("stranger");
        refuseLimits(
            limits(TOPIC, 0, 1, 0, false, only(stranger)),
            SealcastLedger.UnknownDevice.selector,
            abi.encode(stranger)
        );
        refuseLimits(
            limits(TOPIC, 0, 1, 0, false, new address[](65)),
            SealcastLedger.BadLength.selector,
            abi.encode("reporters", 65, 0, 64)
        );
        refuseLimits(
            abi.encode(plant, TOPIC, int128(0), int128(1), uint128(0), uint8(39), "", false, false, nobody),
            SealcastLedger.BadValue.selector,
            abi.encode("decimals", 39, 0, 38)
        );
        refuseLimits(
            abi.encode(plant, TOPIC, int128(0), int128(1), uint128(0), uint8(0), text(33, "u"), false, false, nobody),
            SealcastLedger.BadLength.selector,
            abi.encode("unit", 33, 0, 32)
        );
        // A list that is not asked for.
        refuseLimits(
            abi.encode(plant, TOPIC, int128(0), int128(1), uint128(0), uint8(0), "", false, false, only(pump)),
            SealcastLedger.BadLength.selector,
            abi.encode("reporters", 1, 0, 0)
        );
    }

    function test_limits_are_for_topics_of_the_group() public {
        string[] memory filters = new string[](3);
        (filters[0], filters[1], filters[2]) = ("a/+/c", "b/#", "+");
        take(GROUP_CREATED, operator, creation("wild", filters, 0));
        plant = ledger.groupCount();
        string[8] memory inside = ["a/b/c", "a//c", "b", "b/", "b/x/y", "x", "sealcasts", "b/$x"];
        for (uint256 i = 0; i < inside.length; i++) {
            take(LIMITS_SET, operator, limits(inside[i], 0, 1, 0, false, new address[](0)));
        }
        string[9] memory outside =
            ["a/b", "a/b/c/d", "a/b/cc", "bb/x", "x/", "/", "$SYS", "sealcast", "a/b/"];
        for (uint256 i = 0; i < outside.length; i++) {
            refuseLimits(
                limits(outside[i], 0, 1, 0, false, new address[](0)),
                SealcastLedger.TopicOutside.selector,
                abi.encode(plant, outside[i])
            );
        }
    }

    // ----------------------------------------------------------------------------------------------------- READING

    function test_a_reading_is_judged_and_counted() public {
        take(LIMITS_SET, operator, limits(TOPIC, -50, 990, 100, true, only(pump)));
        judge(1, 200, 1, ACCEPTED);
        judge(1, 200, 1, SEQUENCE_NOT_GREATER);
        judge(2, 20, 0, ACCEPTED); // 20.0
        judge(4, 200, 1, SEQUENCE_GAP);
        judge(5, 2001, 2, TOO_PRECISE); // 20.01
        judge(6, 2010, 2, ACCEPTED); // 20.1
        judge(7, -51, 1, BELOW_MIN);
        judge(8, 991, 1, ABOVE_MAX);
        judge(9, 302, 1, STEP_TOO_LARGE);
        judge(10, 301, 1, ACCEPTED);
        judge(11, 200, 1, STEP_TOO_LARGE);

        SealcastLedger.Stream memory stream = ledger.streamOf(plant, TOPIC, pump);
        vm.assertEq(uint256(stream.accepted), 4, "accepted");
        vm.assertEq(uint256(stream.refused), 7, "refused");
        vm.assertEq(uint256(stream.sequence), 11, "sequence");
        vm.assertEq(int256(stream.value), 301, "value");
        (uint64 accepted, uint64 refused) = ledger.readingsOf(pump);
        vm.assertEq(uint256(accepted), 4, "accepted on all topics");
        vm.assertEq(uint256(refused), 7, "refused on all topics");
    }

    function test_new_limits_let_each_device_begin_anew() public {
        take(LIMITS_SET, operator, limits(TOPIC, 0, 999, 1, true, only(pump)));
        judge(7, 100, 1, ACCEPTED);
        take(LIMITS_SET, operator, limits(TOPIC, 0, 999, 1, true, only(pump)));
        judge(3, 900, 1, ACCEPTED);
        address lamp = member("lamp", plant);
        take(LIMITS_SET, operator, limits(TOPIC, 0, 999, 1, true, only(lamp)));
        judge(4, 900, 1, NOT_A_REPORTER);
    }

    function test_any_number_can_be_judged() public {
        int128[3] memory values = [type(int128).min, 0, type(int128).max];
        take(
            LIMITS_SET,
            operator,
            abi.encode(
                plant, TOPIC, type(int128).min, type(int128).max, uint128(1), uint8(38), "", false, false, new address[](0)
            )
        );
        judge(1, values[0], 38, ACCEPTED);
        judge(2, values[2], 38, STEP_TOO_LARGE); // the longest step: more than an int128 holds
        judge(3, values[0], 0, BELOW_MIN);
        judge(4, values[2], 0, ABOVE_MAX);
        judge(type(uint64).max, values[0] + 1, 38, ACCEPTED);
    }

    function test_readings_that_are_refused() public {
        bytes memory none = abi.encodeWithSelector(SealcastLedger.NoLimits.selector, plant, TOPIC);
        refuse(READING, pump, reading(TOPIC, 1, 1, 0), none);
        refuse(
            READING,
            pump,
            reading("plant/#", 1, 1, 0),
            abi.encodeWithSelector(SealcastLedger.BadText.selector, "topic", 6)
        );
        refuse(
            READING,
            pump,
            reading(TOPIC, 1, 1, 39),
            abi.encodeWithSelector(SealcastLedger.BadValue.selector, "decimals", 39, 0, 38)
        );
        take(REVOKED, operator, abi.encode(plant, pump, ""));
        refuse(
            READING,
            pump,
            reading(TOPIC, 1, 1, 0),
            abi.encodeWithSelector(SealcastLedger.NotGranted.selector, plant, pump)
        );
    }

    // ------------------------------------------------------------------------------------------------------- parts

    /// In tenths of a degree; with a list if there is somebody to list.
    function limits(string memory topic, int128 min, int128 max, uint128 maxStep, bool gapless, address[] memory who)
        private
        view
        returns (bytes memory)
    {
        return abi.encode(plant, topic, min, max, maxStep, uint8(1), unicode"°C", gapless, who.length > 0, who);
    }

    function only(address who) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = who;
    }

    function reading(string memory topic, uint64 sequence, int128 value, uint8 decimals)
        private
        view
        returns (bytes memory)
    {
        return abi.encode(plant, topic, uint64(1), sequence, value, decimals);
    }

    function refuseLimits(bytes memory body, bytes4 selector, bytes memory words) private {
        refuse(LIMITS_SET, operator, body, bytes.concat(selector, words));
    }

    /// The pump's reading is an entry and is judged so.
    function judge(uint64 sequence, int128 value, uint8 decimals, uint8 verdict) private {
        uint64 index = ledger.height();
        vm.recordLogs();
        take(READING, pump, reading(TOPIC, sequence, value, decimals));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 2, "events");
        vm.assertEq(logs[0].topics[0], SealcastLedger.ReadingJudged.selector, "the first");
        vm.assertEq(uint256(logs[0].topics[1]), index, "its index");
        vm.assertEq(address(uint160(uint256(logs[0].topics[2]))), pump, "its device");
        vm.assertEq(uint256(logs[0].topics[3]), verdict, "its verdict");
        vm.assertEq(logs[1].topics[0], SealcastLedger.Entry.selector, "the second");
    }
}

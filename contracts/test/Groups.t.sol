// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import "./Site.sol";
import {vm} from "./Vm.sol";

/// Groups and who is in them: GROUP_CREATED, GRANTED, REVOKED, COMMIT, ANCHOR, GROUP_RESET, FAULT_REPORTED.
contract GroupsTest is Site {
    uint256 internal constant REPORT_LIFE = 7200;

    // -------------------------------------------------------------------------------------------- GROUP_CREATED

    function test_a_group_is_what_the_operator_says() public {
        bytes memory unknown = abi.encodeWithSelector(SealcastLedger.UnknownGroup.selector, 1);
        refuseView(abi.encodeCall(ledger.group, (1)), unknown);
        refuseView(abi.encodeCall(ledger.epochOf, (1)), unknown);
        vm.assertEq(group("plant"), 1, "its number");
        vm.assertEq(group("lamps"), 2, "the next one's");
        SealcastLedger.Group memory plant = ledger.group(1);
        vm.assertEq(plant.name, "plant", "name");
        vm.assertEq(plant.owner, operator, "owner");
        vm.assertEq(uint256(plant.epochMaxAge), 3600, "epochMaxAge");
        vm.assertEq(uint256(plant.epochMaxMessages), 1000, "epochMaxMessages");
        vm.assertEq(uint256(plant.retention), 2, "retention");
        vm.assertEq(uint256(plant.ledgerMaxAge), 600, "ledgerMaxAge");
        vm.assertEq(ledger.groupNamed("plant"), 1, "groupNamed");
    }

    function test_names_and_filters_belong_to_one_group() public {
        group("plant");
        refuseCreation(
            creation("plant", "other/#"), abi.encodeWithSelector(SealcastLedger.NameTaken.selector, "plant", 1)
        );
        refuseCreation(
            creation("other", "plant/#"), abi.encodeWithSelector(SealcastLedger.FilterTaken.selector, "plant/#", 1)
        );
        string[] memory twice = new string[](2);
        (twice[0], twice[1]) = ("a", "a");
        refuseCreation(
            creation("other", twice, 0), abi.encodeWithSelector(SealcastLedger.FilterTaken.selector, "a", 2)
        );
        // What was refused has written nothing.
        take(GROUP_CREATED, operator, creation("other", "a"));
    }

    function test_filters_are_those_of_mqtt() public {
        string[7] memory good = ["a", "#", "+", "a/+/b/#", "/", "+/+", "a b"];
        for (uint256 i = 0; i < good.length; i++) {
            take(GROUP_CREATED, operator, creation(string.concat("g", vm.toString(i)), good[i]));
        }
        badFilter("a#", 1);
        badFilter("a/#/b", 2);
        badFilter("a+", 1);
        badFilter("+a", 0);
        badFilter("##", 0);
        string[4] memory reserved = ["$SYS/#", "$share/g/a", "sealcast", "sealcast/a"];
        for (uint256 i = 0; i < reserved.length; i++) {
            refuseCreation(
                creation("other", reserved[i]),
                abi.encodeWithSelector(SealcastLedger.ReservedFilter.selector, reserved[i])
            );
        }
        take(GROUP_CREATED, operator, creation("near", "sealcaster/a"));
    }

    function test_a_group_has_1_to_16_filters_of_1_to_256_bytes() public {
        bytes4 badLength = SealcastLedger.BadLength.selector;
        for (uint256 count = 0; count <= 17; count += 17) {
            refuseCreation(
                creation("plant", new string[](count), 0), abi.encodeWithSelector(badLength, "filters", count, 1, 16)
            );
        }
        refuseCreation(creation("plant", ""), abi.encodeWithSelector(badLength, "filter", 0, 1, 256));
        refuseCreation(
            creation("plant", text(257, "f")), abi.encodeWithSelector(badLength, "filter", 257, 1, 256)
        );
        string[] memory sixteen = new string[](16);
        for (uint256 i = 0; i < 16; i++) sixteen[i] = text(241 + i, "f");
        take(GROUP_CREATED, operator, creation("plant", sixteen, 1));
        vm.assertEq(uint256(ledger.group(1).authenticity), 1, "authenticity");
    }

    function test_creations_that_are_refused() public {
        string[] memory filters = new string[](1);
        filters[0] = "a";
        refuseCreation(
            creation("plant", filters, 2), abi.encodeWithSelector(SealcastLedger.BadValue.selector, "authenticity", 2, 0, 1)
        );
        refuseCreation(creation(".a", "a"), abi.encodeWithSelector(SealcastLedger.BadText.selector, "group", 0));
    }

    /// 65,535 groups would take an hour to make, so the test sets the count that is stored.
    function test_there_are_65535_groups_at_most() public {
        vm.record();
        ledger.groupCount();
        (bytes32[] memory reads,) = vm.accesses(address(ledger));
        // height, lastTime and groupCount share a word.
        bytes32 word = vm.load(address(ledger), reads[0]);
        vm.store(address(ledger), reads[0], word | bytes32(uint256(0xfffe) << 128));
        vm.assertEq(ledger.groupCount(), 0xfffe, "groupCount");
        vm.assertEq(group("last"), 0xffff, "the last one's number");
        refuseCreation(creation("more", "more"), abi.encodeWithSelector(SealcastLedger.TooManyGroups.selector));
    }

    // ------------------------------------------------------------------------------------------ GRANTED, REVOKED

    function test_a_device_is_granted_and_revoked_and_granted_again() public {
        uint16 plant = group("plant");
        address pump = device("pump");
        vm.assertTrue(!ledger.granted(plant, pump), "never granted");
        grant(plant, pump);
        vm.assertTrue(ledger.granted(plant, pump), "granted");
        take(REVOKED, operator, abi.encode(plant, pump, "gone"));
        vm.assertTrue(!ledger.granted(plant, pump), "revoked");
        grant(plant, pump);
        vm.assertTrue(ledger.granted(plant, pump), "granted again");
        vm.assertTrue(!ledger.granted(plant + 1, pump), "granted another group");
    }

    function test_grants_that_are_refused() public {
        uint16 plant = group("plant");
        (address pump, address lamp) = (member("pump", plant), ledger.numberOf("lamp"));
        bytes memory unknown = abi.encodeWithSelector(SealcastLedger.UnknownGroup.selector, 9);
        refuse(GRANTED, operator, abi.encode(uint16(9), pump), unknown);
        refuse(
            GRANTED,
            operator,
            abi.encode(plant, lamp),
            abi.encodeWithSelector(SealcastLedger.UnknownDevice.selector, lamp)
        );
        refuse(
            GRANTED,
            operator,
            abi.encode(plant, pump),
            abi.encodeWithSelector(SealcastLedger.AlreadyGranted.selector, plant, pump)
        );
        take(DEVICE_REVOKED, ca, abi.encode(pump, ""));
        refuse(
            GRANTED, operator, abi.encode(plant, pump), abi.encodeWithSelector(SealcastLedger.NotActive.selector, pump)
        );
    }

    function test_revocations_that_are_refused() public {
        uint16 plant = group("plant");
        address pump = device("pump");
        bytes memory notGranted = abi.encodeWithSelector(SealcastLedger.NotGranted.selector, plant, pump);
        refuse(REVOKED, operator, abi.encode(plant, pump, ""), notGranted);
        grant(plant, pump);
        refuse(
            REVOKED,
            operator,
            abi.encode(plant, pump, "\n"),
            abi.encodeWithSelector(SealcastLedger.BadText.selector, "reason", 0)
        );
        take(REVOKED, operator, abi.encode(plant, pump, ""));
        refuse(REVOKED, operator, abi.encode(plant, pump, ""), notGranted);
    }

    // ------------------------------------------------------------------------------------------- COMMIT, ANCHOR

    function test_the_first_commit_of_an_epoch_is_it() public {
        uint16 plant = group("plant");
        (address pump, address lamp) = (member("pump", plant), member("lamp", plant));
        commit(plant, pump);
        requireEpoch(plant, 0, 1);
        bytes4 wrong = SealcastLedger.WrongEpoch.selector;
        bytes memory late = abi.encode(plant, uint32(0), uint64(0), bytes("commit"));
        refuse(COMMIT, lamp, late, abi.encodeWithSelector(wrong, 0, 1, 0, 0));
        bytes memory early = abi.encode(plant, uint32(0), uint64(2), bytes("commit"));
        refuse(COMMIT, lamp, early, abi.encodeWithSelector(wrong, 0, 1, 0, 2));
        bytes memory other = abi.encode(plant, uint32(1), uint64(1), bytes("commit"));
        refuse(COMMIT, lamp, other, abi.encodeWithSelector(wrong, 0, 1, 1, 1));
        commit(plant, lamp);
        requireEpoch(plant, 0, 2);
    }

    function test_only_members_commit_and_anchor() public {
        uint16 plant = group("plant");
        address pump = device("pump");
        bytes memory notGranted = abi.encodeWithSelector(SealcastLedger.NotGranted.selector, plant, pump);
        bytes memory body = abi.encode(plant, uint32(0), uint64(0), bytes("commit"));
        refuse(COMMIT, pump, body, notGranted);
        refuse(ANCHOR, pump, abi.encode(plant, bytes32("root"), uint32(1)), notGranted);
        bytes memory unknown = abi.encodeWithSelector(SealcastLedger.UnknownGroup.selector, 9);
        refuse(ANCHOR, pump, abi.encode(uint16(9), bytes32("root"), uint32(1)), unknown);
        refuse(
            COMMIT,
            pump,
            abi.encode(plant, uint32(0), uint64(0), ""),
            abi.encodeWithSelector(SealcastLedger.BadLength.selector, "commit", 0, 1, 96 * 1024)
        );
    }

    function test_an_anchor_counts_messages() public {
        uint16 plant = group("plant");
        address pump = member("pump", plant);
        take(ANCHOR, pump, abi.encode(plant, bytes32("root"), type(uint32).max));
        refuse(
            ANCHOR,
            pump,
            abi.encode(plant, bytes32("root"), uint32(0)),
            abi.encodeWithSelector(SealcastLedger.BadValue.selector, "count", 0, 1, type(uint32).max)
        );
    }

    // ----------------------------------------------------------------------------------------------- GROUP_RESET

    function test_a_reset_group_begins_again_and_keeps_its_members() public {
        uint16 plant = group("plant");
        address pump = member("pump", plant);
        commit(plant, pump);
        take(GROUP_RESET, operator, abi.encode(plant, "leak"));
        requireEpoch(plant, 1, 0);
        vm.assertTrue(ledger.granted(plant, pump), "granted");
        commit(plant, pump);
        requireEpoch(plant, 1, 1);
        refuse(
            GROUP_RESET,
            operator,
            abi.encode(plant, text(257, "r")),
            abi.encodeWithSelector(SealcastLedger.BadLength.selector, "reason", 257, 0, 256)
        );
    }

    // -------------------------------------------------------------------------------------------- FAULT_REPORTED

    function test_an_author_whom_more_than_half_cannot_follow_is_out() public {
        (uint16 plant, address[] memory who) = fourAfterACommitOfTheFirst();
        report(plant, who[1], 0, false);
        report(plant, who[2], 0, false);
        requireEpoch(plant, 0, 1);
        vm.assertTrue(ledger.granted(plant, who[0]), "granted with half against it");
        report(plant, who[3], 0, false);
        requireEpoch(plant, 1, 0);
        vm.assertTrue(!ledger.granted(plant, who[0]), "granted with three of four against it");
        vm.assertTrue(ledger.granted(plant, who[1]), "granted who reported");
    }

    function test_for_being_kept_out_nobody_loses_its_grant() public {
        (uint16 plant, address[] memory who) = fourAfterACommitOfTheFirst();
        report(plant, who[1], 0, true);
        report(plant, who[2], 0, false);
        report(plant, who[3], 0, true);
        requireEpoch(plant, 1, 0);
        vm.assertTrue(ledger.granted(plant, who[0]), "granted");
    }

    function test_a_report_counts_for_two_hours_and_once_a_member() public {
        (uint16 plant, address[] memory who) = fourAfterACommitOfTheFirst();
        report(plant, who[1], 0, false);
        for (uint256 i = 0; i < 3; i++) report(plant, who[2], 0, false);
        vm.warp(START + REPORT_LIFE + 1);
        report(plant, who[3], 0, false);
        requireEpoch(plant, 0, 1);
        report(plant, who[2], 0, false);
        report(plant, who[1], 0, false);
        requireEpoch(plant, 1, 0);
    }

    function test_who_reports_somebody_else_has_nothing_against_the_first() public {
        (uint16 plant, address[] memory who) = fourAfterACommitOfTheFirst();
        commit(plant, who[1]);
        report(plant, who[2], 0, false);
        report(plant, who[3], 0, false);
        report(plant, who[2], 1, false);
        report(plant, who[1], 0, false);
        requireEpoch(plant, 0, 2);
        vm.assertTrue(ledger.granted(plant, who[0]) && ledger.granted(plant, who[1]), "granted");
    }

    function test_a_revoked_member_counts_no_more() public {
        (uint16 plant, address[] memory who) = fourAfterACommitOfTheFirst();
        report(plant, who[1], 0, false);
        take(REVOKED, operator, abi.encode(plant, who[2], ""));
        take(DEVICE_REGISTERED, ca, registration("d3", 99)); // another key: its grant is void
        report(plant, who[1], 0, false);
        requireEpoch(plant, 0, 1);
        take(REVOKED, operator, abi.encode(plant, who[0], ""));
        report(plant, who[1], 0, false);
        requireEpoch(plant, 1, 0);
    }

    function test_reports_that_are_refused() public {
        (uint16 plant, address[] memory who) = fourAfterACommitOfTheFirst();
        bytes4 wrong = SealcastLedger.WrongEpoch.selector;
        bytes memory ahead = abi.encode(plant, uint32(0), uint64(1), false);
        refuse(FAULT_REPORTED, who[1], ahead, abi.encodeWithSelector(wrong, 0, 1, 0, 1));
        bytes memory other = abi.encode(plant, uint32(1), uint64(0), false);
        refuse(FAULT_REPORTED, who[1], other, abi.encodeWithSelector(wrong, 0, 1, 1, 0));
        address lamp = device("lamp");
        refuse(
            FAULT_REPORTED,
            lamp,
            abi.encode(plant, uint32(0), uint64(0), false),
            abi.encodeWithSelector(SealcastLedger.NotGranted.selector, plant, lamp)
        );
    }

    // ---------------------------------------------------------------------------------------------------- parts

    function refuseCreation(bytes memory body, bytes memory expected) private {
        refuse(GROUP_CREATED, operator, body, expected);
    }

    function badFilter(string memory filter, uint256 position) private {
        refuseCreation(
            creation("other", filter), abi.encodeWithSelector(SealcastLedger.BadFilter.selector, filter, position)
        );
    }

    function requireEpoch(uint16 number, uint32 generation, uint64 epoch) private view {
        (uint32 generationNow, uint64 epochNow) = ledger.epochOf(number);
        vm.assertEq(uint256(generationNow), generation, "generation");
        vm.assertEq(uint256(epochNow), epoch, "epoch");
    }

    function fourAfterACommitOfTheFirst() private returns (uint16 number, address[] memory who) {
        number = group("plant");
        who = new address[](4);
        for (uint256 i = 0; i < 4; i++) who[i] = member(string.concat("d", vm.toString(i)), number);
        commit(number, who[0]);
    }

    function report(uint16 number, address by, uint64 epoch, bool keptOut) private {
        take(FAULT_REPORTED, by, abi.encode(number, uint32(0), epoch, keptOut));
    }
}

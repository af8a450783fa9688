"""The verify report as JUnit XML: an unknown check is an error, a failed one a failure."""

from __future__ import annotations

from xml.etree import ElementTree

from gpuctl.verify.run import Report


def render(report: Report) -> str:
    """One test suite, one case per check."""
    summary = report.summary
    suite = ElementTree.Element(
        "testsuite",
        name=f"gpuctl verify {report.cluster}",
        timestamp=report.time.removesuffix("Z"),
        time=f"{report.seconds:.1f}",
        tests=str(len(report.results)),
        failures=str(summary["fail"]),
        errors=str(summary["unknown"]),
        skipped=str(summary["skipped"]),
    )
    if report.simulated:
        properties = ElementTree.SubElement(suite, "properties")
        ElementTree.SubElement(properties, "property", name="simulated", value=", ".join(report.simulated))
    for result in report.results:
        check, measurement = result.check, result.measurement
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"gpuctl.{check.group}", name=f"{check.id} {check.claim}", time="0"
        )
        detail = f"measured: {measurement.measured}\nlimit: {measurement.limit}\nnext: {measurement.next}"
        tag = {"fail": "failure", "unknown": "error", "skipped": "skipped"}.get(measurement.outcome)
        if tag:
            ElementTree.SubElement(case, tag, message=measurement.reason).text = detail
        else:
            ElementTree.SubElement(case, "system-out").text = detail
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
